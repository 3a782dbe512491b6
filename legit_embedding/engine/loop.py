"""Device loop: the thread that launches batches on the device."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from legit_embedding.engine.completions import Completions, Flight
from legit_embedding.engine.device_queue import DeviceQueue
from legit_embedding.engine.recovery import Recovery
from legit_embedding.engine.scheduler import Scheduler
from legit_embedding.engine.sizing.profile import launch
from legit_embedding.engine.stats import BusyMeter, Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from legit_embedding.engine.batching.batch import Batch
    from legit_embedding.engine.device.base import Device, Pending
    from legit_embedding.engine.in_flight import InFlightBatches
    from legit_embedding.engine.model_queue import ModelQueue
    from legit_embedding.engine.outcomes import Outcomes

TURN_S = 0.5
"""Maximum sleep of the loop. It turns this often even when idle, so that monitoring can tell idle from stuck."""
ATTENDED_S = 10.0
"""Seconds after an interactive item during which another one is expected."""
MEMORY_CHECK_S = 5.0
"""Interval between readings of the device's free memory."""


class Loop:
    """Packs, stages and launches batches one after another, and hands failed batches to recovery.

    It stays one batch ahead of the device, or two where launches are slow. A partial batch is held back until the
    previous batch is nearly done: this costs the device no time and lets more items arrive. So is a full batch while
    interactive items come, because one that comes next would have to wait for it.

    Args:
        queues: the models by name.
        outcomes: settles items.
        in_flight: the registry of unsettled batches.
        open_device: opens the device and loads the models; called on the loop's thread.
        check_memory: adjusts the models' ceilings to the memory that is free now.
        on_fatal: called with the cause, on the loop's thread, when the loop ends without having been stopped.
    """

    def __init__(
        self,
        queues: Mapping[str, ModelQueue],
        outcomes: Outcomes,
        in_flight: InFlightBatches,
        open_device: Callable[[], Device],
        check_memory: Callable[[Device], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._queues = queues
        self._outcomes = outcomes
        self._in_flight = in_flight
        self._open_device = open_device
        self._check_memory = check_memory
        self._on_fatal = on_fatal
        self._thread = threading.Thread(target=self._main, name="engine-loop", daemon=True)
        self._ready = threading.Event()
        self._wake = threading.Event()
        self._running = False
        self._hungry = False
        self._stop_by: float | None = None
        self._landings: deque[tuple[Flight, BaseException | None]] = deque()
        self._crash: BaseException | None = None
        self._refusal: BaseException | None = None
        self._attended_until = self._memory_checked_at = time.monotonic()
        self.device_queue = DeviceQueue()
        self.scheduler = Scheduler({name: queue.backend.config.weight for name, queue in queues.items()})
        self.busy = BusyMeter(time.monotonic())
        self.turned_at = time.monotonic()
        self.memory = Memory()

    _device: Device
    _recovery: Recovery
    _completions: Completions

    def start(self) -> None:
        """Start the thread and wait until the models are ready.

        Raises:
            BaseException: the error that prevented the start.
        """
        self._thread.start()
        self._ready.wait()
        if self._refusal is not None:
            raise self._refusal

    def stop(self, timeout: float) -> None:
        """Stop the loop once the batches on the device have landed, or after `timeout` seconds."""
        self._stop_by = time.monotonic() + timeout
        self._wake.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout + 2 * TURN_S)

    @property
    def running(self) -> bool:
        """True if the models are ready and the loop has not ended."""
        return self._running and self._thread.is_alive()

    def notice(self) -> None:
        """Wake the loop after a submission if it is waiting for items."""
        if self._hungry:
            self._hungry = False
            self._wake.set()

    def stalled_for(self, now: float) -> float:
        """Return the seconds since the loop or the device last made progress, less the loop's maximum sleep."""
        return max(0.0, now - self.turned_at - TURN_S, self.device_queue.stalled_for(now))

    def _main(self) -> None:
        try:
            self._device = self._open_device()
            self._read_memory()
            self.device_queue.depth = max(queue.plan.in_flight() for queue in self._queues.values())
        except BaseException as error:  # noqa: BLE001 - raised again by `start`
            self._refusal = error
            self._ready.set()
            return
        self._recovery = Recovery(self._device, self._outcomes, self._in_flight)
        self._completions = Completions(self._device, self._outcomes, self._in_flight, self._landed, self._crashed)
        self._completions.start()
        self.busy = BusyMeter(time.monotonic())
        self._running = True
        self._ready.set()
        self._end(self._run())

    def _run(self) -> BaseException | None:
        """Run turns until stopped. Returns the cause if the loop ended otherwise."""
        try:
            while self._stop_by is None:
                self._turn()
            self._let_land(self._stop_by)
        except BaseException as error:  # noqa: BLE001 - law 11: a dead loop must be seen, and no delivery hang
            return error
        return None

    def _end(self, cause: BaseException | None) -> None:
        self._running = False
        for queue in self._queues.values():
            self._outcomes.give_back(queue.accumulator.close())
        self._in_flight.end()
        if cause is not None:
            self._on_fatal(cause)
        self._completions.stop()
        if cause is None:
            self._device.close()
        else:
            # The traceback's frames hold the failed batch; this loop holds all the others.
            self._device.abandon(self, cause)

    def _turn(self) -> None:
        self.turned_at = now = time.monotonic()
        self._absorb(now)
        self._watch_memory(now)
        if not self.device_queue.full:
            self._advance(now)
        else:
            self._sleep(TURN_S)

    def _advance(self, now: float) -> None:
        """Launch a batch, or sleep until one is due."""
        due = {name: wait for name, queue in self._queues.items() if (wait := queue.due_in(now)) is not None}
        ready = [name for name, wait in due.items() if wait <= 0]
        if not ready:
            self._sleep(min([TURN_S, *due.values()]), hungry=True)
            return
        queue = self._queues[self.scheduler.next(ready)]
        spare = self.device_queue.spare(now)
        if spare > 0 and (self._is_attended(now) or not queue.has_full_batch()):
            self._sleep(min(TURN_S, spare))
        else:
            self._launch(queue, now)

    def _is_attended(self, now: float) -> bool:
        """Return True while interactive items come, so that no batch may hold the next one up for long."""
        return now < self._attended_until

    def _launch(self, queue: ModelQueue, now: float) -> None:
        batch = queue.next_batch(now, attended=self._is_attended(now))
        if batch is None or not self._in_flight.take(batch):
            return
        if any(delivery.interactive for delivery in batch.deliveries):
            self._attended_until = now + ATTENDED_S
        expected = queue.expected_s(batch.cost)
        self.scheduler.serve(queue.name, expected)
        pending = self._try_launch(queue, batch)
        if isinstance(pending, BaseException):
            self.scheduler.correct(queue.name, -expected)
            self._recovery.handle(queue, batch, pending)
            return
        launched = time.monotonic()
        self.device_queue.launched(expected, launched - now, launched)
        self._completions.put(Flight(queue, batch, pending, expected))

    def _try_launch(self, queue: ModelQueue, batch: Batch) -> Pending | BaseException:
        try:
            arrays = [delivery.prepared.array for delivery in batch.distinct]
            return launch(self._device, queue.backend, queue.forward, arrays)
        except Exception as error:  # noqa: BLE001 - a failing batch must not affect others
            return error

    def _absorb(self, now: float) -> None:
        """Process landed batches."""
        while self._landings:
            flight, error = self._landings.popleft()
            self.device_queue.landed(now)
            seconds = flight.pending.seconds
            self.busy.add(seconds, now)
            self.scheduler.correct(flight.queue.name, seconds - flight.expected_s)
            if error is None:
                flight.queue.ran(flight.batch, seconds)
            elif self._stop_by is None:
                self._recovery.handle(flight.queue, flight.batch, error)
        if self._crash is not None:
            raise self._crash

    def _let_land(self, by: float) -> None:
        """Wait for the batches on the device until the time `by`."""
        while len(self.device_queue) and (now := time.monotonic()) < by:
            self.turned_at = now
            self._wake.clear()
            if not self._landings and self._crash is None:
                self._wake.wait(min(by - now, TURN_S))
            self._absorb(now)

    def _sleep(self, seconds: float, *, hungry: bool = False) -> None:
        """Sleep until the timeout, a landing, a stop request or, if hungry, a submission."""
        self._wake.clear()
        self._hungry = hungry
        # Checked after the flags are set, so that any later event wakes the loop.
        if not self._has_news(hungry=hungry):
            self._wake.wait(seconds)
        self._hungry = False

    def _has_news(self, *, hungry: bool) -> bool:
        if self._landings or self._crash is not None or self._stop_by is not None:
            return True
        now = time.monotonic()
        return hungry and any(queue.due_in(now) == 0 for queue in self._queues.values())

    def _landed(self, flight: Flight, error: BaseException | None) -> None:
        self._landings.append((flight, error))
        self._wake.set()

    def _crashed(self, cause: BaseException) -> None:
        self._crash = cause
        self._wake.set()

    def _watch_memory(self, now: float) -> None:
        if now - self._memory_checked_at > MEMORY_CHECK_S:
            self._memory_checked_at = now
            self._check_memory(self._device)
            self._read_memory()

    def _read_memory(self) -> None:
        device = self._device
        self.memory = Memory(device.used_bytes(), device.free_bytes(), is_gpu=device.torch_device.type == "cuda")
