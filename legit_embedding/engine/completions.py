"""Completion thread: waits for vectors and delivers them while the loop continues."""

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
    """Waits for flights in launch order.

    Args:
        device: the device that runs the flights.
        outcomes: receives the vectors.
        in_flight: the registry from which finished batches are released.
        landed: called for each flight as soon as its vectors or its error are available, before its items are answered.
        crashed: called if this thread cannot continue.
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
        """Queue a flight behind the earlier ones."""
        self._flights.put(flight)

    def stop(self, timeout: float = _STOP_S) -> None:
        """Stop the thread after the flights already queued; abandon it if one of them never lands."""
        self._flights.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self._device.adopt_thread()
            while (flight := self._flights.get()) is not None:
                self._land(flight)
                del flight  # otherwise its items stay referenced until the next flight
        except BaseException as error:  # noqa: BLE001 - law 11: a dead thread must be seen
            self._crashed(error)

    def _land(self, flight: Flight) -> None:
        vectors = self._vectors(flight)
        if isinstance(vectors, BaseException):
            self._landed(flight, vectors)
            return
        flight.batch.sound = any(vectors.finite)
        # Claim before notifying the loop: when stopping it waits for this flight, then gives unclaimed items back.
        claimed = flight.batch.claim()
        self._landed(flight, None)
        if claimed:
            seconds = flight.pending.seconds
            self._outcomes.embedded(flight.batch, vectors, time.monotonic() - seconds, seconds)
        self._in_flight.release(flight.batch)

    @staticmethod
    def _vectors(flight: Flight) -> Vectors | BaseException:
        try:
            batch = flight.batch
            return Vectors(flight.pending.wait(), len(batch.distinct), flight.queue.backend.dim).spread(batch.rows)
        except BaseException as error:  # noqa: BLE001 - the loop decides
            return error
