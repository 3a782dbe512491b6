"""The one thread that drives the device."""

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
"""The longest the loop sleeps: it turns this often with nothing to do, so that one can tell idle from stuck."""
MEMORY_CHECK_S = 5.0
"""How often the device's free memory is read again."""


class Loop:
    """Packs, stages and launches one batch after the other, and decides what becomes of those that fail.

    It stays one batch ahead of the device, or two where launches are slow. A batch that is not full is held back until
    the batch before it is nearly done: the device does not notice, and more items come along.

    Args:
        queues: the models by name.
        outcomes: settles items.
        in_flight: knows every batch that is not settled.
        open_device: opens the device and loads the models; called on the loop's thread.
        check_memory: compares the models' plans with what is free now.
        on_fatal: called with the cause, on the loop's thread, when it ends without having been asked to.
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
        self._memory_checked_at = time.monotonic()
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
            BaseException: whatever kept them from getting ready.
        """
        self._thread.start()
        self._ready.wait()
        if self._refusal is not None:
            raise self._refusal

    def stop(self, timeout: float) -> None:
        """End the loop after what is on the device, or after `timeout` seconds without it."""
        self._stop_by = time.monotonic() + timeout
        self._wake.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout + 2 * TURN_S)

    @property
    def running(self) -> bool:
        """Whether the models are ready and the loop has not ended."""
        return self._running and self._thread.is_alive()

    def notice(self) -> None:
        """Something was submitted."""
        if self._hungry:
            self._hungry = False
            self._wake.set()

    def stalled_for(self, now: float) -> float:
        """How long the loop, or the device, has made no progress, beyond the loop's longest sleep."""
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
        """Turn until stopped; the cause if it ends otherwise."""
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
            # The cause's frames hold the batch that failed, and this loop all the others.
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
        """Launch a batch, or sleep until one should be launched."""
        due = {name: wait for name, queue in self._queues.items() if (wait := queue.due_in(now)) is not None}
        ready = [name for name, wait in due.items() if wait <= 0]
        if not ready:
            self._sleep(min([TURN_S, *due.values()]), hungry=True)
            return
        queue = self._queues[self.scheduler.next(ready)]
        spare = self.device_queue.spare(now)
        if spare > 0 and not queue.has_full_batch():
            self._sleep(min(TURN_S, spare))
        else:
            self._launch(queue, now)

    def _launch(self, queue: ModelQueue, now: float) -> None:
        batch = queue.next_batch(now)
        if batch is None or not self._in_flight.take(batch):
            return
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
            arrays = [delivery.prepared.array for delivery in batch.deliveries]
            return launch(self._device, queue.backend, queue.forward, arrays)
        except Exception as error:  # noqa: BLE001 - whatever a batch does, it costs itself only
            return error

    def _absorb(self, now: float) -> None:
        """Take in what has landed."""
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
        """Wait for what is on the device."""
        while len(self.device_queue) and (now := time.monotonic()) < by:
            self.turned_at = now
            self._wake.clear()
            if not self._landings and self._crash is None:
                self._wake.wait(min(by - now, TURN_S))
            self._absorb(now)

    def _sleep(self, seconds: float, *, hungry: bool = False) -> None:
        """Sleep until the time is over, something lands, the loop is to stop or, if hungry, something is submitted."""
        self._wake.clear()
        self._hungry = hungry
        # Looked at after the flags are set: what comes later wakes the loop.
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
