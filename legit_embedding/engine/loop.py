"""The one thread that drives the device."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from legit_embedding.engine.completions import Completions, Flight
from legit_embedding.engine.plan import launch
from legit_embedding.engine.runway import Runway
from legit_embedding.engine.scheduler import Scheduler
from legit_embedding.engine.stats import BusyMeter, Memory
from legit_embedding.engine.survival import Survival

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from legit_embedding.engine.answers import Answers
    from legit_embedding.engine.batch import Batch
    from legit_embedding.engine.custody import Custody
    from legit_embedding.engine.device import Device, Pending
    from legit_embedding.engine.lane import Lane

TURN_S = 0.5
"""The longest the loop sleeps: it turns this often with nothing to do, so that one can tell idle from stuck."""
MEMORY_CHECK_S = 5.0
"""How often the device's free memory is read again."""


class Loop:
    """Packs, stages and launches one batch after the other, and decides what becomes of those that fail.

    It stays one batch ahead of the device, or two where launches are slow. A batch that is not full is held back until
    the batch before it is nearly done: the device does not notice, and more items come along.

    Args:
        lanes: the models by name.
        answers: settles items.
        custody: knows every batch that is not settled.
        open_device: opens the device and loads the models; called on the loop's thread.
        check_memory: compares the models' plans with what is free now.
        on_fatal: called with the cause, on the loop's thread, when it ends without having been asked to.
    """

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        answers: Answers,
        custody: Custody,
        open_device: Callable[[], Device],
        check_memory: Callable[[Device], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._lanes = lanes
        self._answers = answers
        self._custody = custody
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
        self.runway = Runway()
        self.scheduler = Scheduler({name: lane.backend.config.weight for name, lane in lanes.items()})
        self.busy = BusyMeter(time.monotonic())
        self.turned_at = time.monotonic()
        self.memory = Memory()

    _device: Device
    _survival: Survival
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
        return max(0.0, now - self.turned_at - TURN_S, self.runway.stalled_for(now))

    def _main(self) -> None:
        try:
            self._device = self._open_device()
            self._read_memory()
            self.runway.depth = max(lane.plan.in_flight() for lane in self._lanes.values())
        except BaseException as error:  # noqa: BLE001 - raised again by `start`
            self._refusal = error
            self._ready.set()
            return
        self._survival = Survival(self._device, self._answers, self._custody)
        self._completions = Completions(self._device, self._answers, self._custody, self._landed, self._crashed)
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
        for lane in self._lanes.values():
            self._answers.give_back(lane.accumulator.close())
        self._custody.end()
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
        if not self.runway.full:
            self._advance(now)
        else:
            self._sleep(TURN_S)

    def _advance(self, now: float) -> None:
        """Launch a batch, or sleep until one should be launched."""
        due = {name: wait for name, lane in self._lanes.items() if (wait := lane.due_in(now)) is not None}
        ready = [name for name, wait in due.items() if wait <= 0]
        if not ready:
            self._sleep(min([TURN_S, *due.values()]), hungry=True)
            return
        lane = self._lanes[self.scheduler.next(ready)]
        spare = self.runway.spare(now)
        if spare > 0 and not lane.has_full_batch():
            self._sleep(min(TURN_S, spare))
        else:
            self._launch(lane, now)

    def _launch(self, lane: Lane, now: float) -> None:
        batch = lane.next_batch(now)
        if batch is None or not self._custody.take(batch):
            return
        expected = lane.expected_s(batch.cost)
        self.scheduler.serve(lane.name, expected)
        pending = self._try_launch(lane, batch)
        if isinstance(pending, BaseException):
            self.scheduler.correct(lane.name, -expected)
            self._survival.handle(lane, batch, pending)
            return
        launched = time.monotonic()
        self.runway.launched(expected, launched - now, launched)
        self._completions.put(Flight(lane, batch, pending, expected))

    def _try_launch(self, lane: Lane, batch: Batch) -> Pending | BaseException:
        try:
            arrays = [delivery.prepared.array for delivery in batch.deliveries]
            return launch(self._device, lane.backend, lane.forward, arrays)
        except Exception as error:  # noqa: BLE001 - whatever a batch does, it costs itself only
            return error

    def _absorb(self, now: float) -> None:
        """Take in what has landed."""
        while self._landings:
            flight, error = self._landings.popleft()
            self.runway.landed(now)
            seconds = flight.pending.seconds
            self.busy.add(seconds, now)
            self.scheduler.correct(flight.lane.name, seconds - flight.expected_s)
            if error is None:
                flight.lane.ran(flight.batch, seconds)
            elif self._stop_by is None:
                self._survival.handle(flight.lane, flight.batch, error)
        if self._crash is not None:
            raise self._crash

    def _let_land(self, by: float) -> None:
        """Wait for what is on the device."""
        while len(self.runway) and (now := time.monotonic()) < by:
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
        return hungry and any(lane.due_in(now) == 0 for lane in self._lanes.values())

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
