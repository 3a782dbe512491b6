"""The thread that waits for vectors and hands them out, while the loop goes on."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from legit_embedding.engine.outcomes import Vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.engine.batching.batch import Batch
    from legit_embedding.engine.device.base import Device, Pending
    from legit_embedding.engine.in_flight import InFlightBatches
    from legit_embedding.engine.model_queue import ModelQueue
    from legit_embedding.engine.outcomes import Outcomes

_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Flight:
    """One batch on the device."""

    queue: ModelQueue
    batch: Batch
    pending: Pending
    expected_s: float


class Completions:
    """Waits for flights in the order of their launch.

    Args:
        device: what they fly on.
        outcomes: takes the vectors.
        in_flight: lets go of the batches.
        landed: told of each flight as soon as its vectors, or its error, are there, before the items are.
        crashed: told if this thread cannot go on.
    """

    def __init__(
        self,
        device: Device,
        outcomes: Outcomes,
        in_flight: InFlightBatches,
        landed: Callable[[Flight, BaseException | None], None],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._device = device
        self._outcomes = outcomes
        self._in_flight = in_flight
        self._landed = landed
        self._crashed = crashed
        self._flights: SimpleQueue[Flight | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine-completions", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, flight: Flight) -> None:
        """Wait for this one after those before it."""
        self._flights.put(flight)

    def stop(self, timeout: float = _STOP_S) -> None:
        """End the thread after the flights it has been given; leave it behind if one of them never lands."""
        self._flights.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self._device.adopt_thread()
            while (flight := self._flights.get()) is not None:
                self._land(flight)
                del flight  # or its items would be kept until the next flight
        except BaseException as error:  # noqa: BLE001 - law 11: a dead thread must be seen
            self._crashed(error)

    def _land(self, flight: Flight) -> None:
        vectors = self._vectors(flight)
        if isinstance(vectors, BaseException):
            self._landed(flight, vectors)
            return
        flight.batch.sound = any(vectors.finite)
        # Claimed before the loop hears of it: it may be waiting for this flight to end, and give back what is left.
        claimed = flight.batch.claim()
        self._landed(flight, None)
        if claimed:
            seconds = flight.pending.seconds
            self._outcomes.embedded(flight.batch, vectors, time.monotonic() - seconds, seconds)
        self._in_flight.release(flight.batch)

    @staticmethod
    def _vectors(flight: Flight) -> Vectors | BaseException:
        try:
            return Vectors(flight.pending.wait(), len(flight.batch.deliveries), flight.queue.backend.dim)
        except BaseException as error:  # noqa: BLE001 - the loop decides
            return error
