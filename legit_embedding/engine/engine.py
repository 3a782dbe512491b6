"""Public interface of the batching engine."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from legit_embedding.engine.device.device_lock import hold
from legit_embedding.engine.device.kernels import choose_attention
from legit_embedding.engine.device.open import open_device
from legit_embedding.engine.front import WAITING_BYTES, Front
from legit_embedding.engine.in_flight import InFlightBatches
from legit_embedding.engine.loop import Loop
from legit_embedding.engine.model_queue import ModelQueue
from legit_embedding.engine.outcomes import Outcomes
from legit_embedding.engine.recovery import is_lost
from legit_embedding.engine.sizing import load as startup
from legit_embedding.engine.stats import EngineStats, Progress
from legit_embedding.errors import ConfigError, in_one_line
from legit_embedding.progress import logger as progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from legit_embedding.config import EngineConfig
    from legit_embedding.engine.device.base import Device
    from legit_embedding.engine.device.choice import Choice
    from legit_embedding.engine.device.device_lock import Hold
    from legit_embedding.engine.sizing.profile import Plan
    from legit_embedding.models.backend import Backend

logger = logging.getLogger(__name__)

STOP_S = 10.0


class Engine(Front):
    """Embeds deliveries of several models on one device.

    All methods except `start` may be called from any thread. Items submitted before the start wait for it.

    Args:
        backends: the models by registry name; at least one.
        config: the engine's settings.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        open_device: opens the device, on the loop's thread.
        on_room: called from an engine thread when a model that was full has room again; must be quick.
        on_fatal: called once with the cause, from an engine thread, when the engine has stopped by itself because the
            device is permanently broken or one of its threads died. All unanswered items have been given back by then.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        config: EngineConfig,
        device: str = "auto",
        precision: str = "auto",
        *,
        open_device: Callable[[str], Device] = open_device,
        on_room: Callable[[], None] | None = None,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._config = config
        self._device_name = device
        self._precision = precision
        self._open_device = open_device
        self._on_fatal = on_fatal
        self._choice: Choice | None = None
        self._hold: Hold | None = None
        super().__init__(Outcomes(), on_room)
        self._in_flight = InFlightBatches(self._outcomes)
        self._queues = {name: self._queue(name, backend) for name, backend in backends.items()}
        self._loop = Loop(
            self._queues, self._outcomes, self._in_flight, self._open, self._check_memory, self._report_fatal
        )

    def start(self) -> None:
        """Load, measure and warm up the models. Returns when the device is ready for deliveries.

        Raises:
            ConfigError: a model or the device cannot be used, with a one-line reason. Submitted items are given back.
        """
        try:
            self._loop.start()
        except BaseException as error:
            self._give_back_waiting()
            if isinstance(error, ConfigError) or not isinstance(error, Exception):
                raise
            message = f"device {self._device_name!r} cannot be used: {in_one_line(error)}"
            raise ConfigError(message) from error

    def full_batch(self, model: str) -> int:
        """Return the approximate number of items in a model's full batch."""
        return self._queues[model].batch_items()

    def plans(self) -> dict[str, Plan]:
        """Return the measured plan of each model. Available after the start."""
        return {name: queue.plan for name, queue in self._queues.items()}

    @property
    def choice(self) -> Choice | None:
        """Device in use and the reason for choosing it; None until it is opened."""
        return self._choice

    def stats(self) -> EngineStats:
        """Return a snapshot of the counters."""
        device_s = sum(queue.counters.device_s for queue in self._queues.values())
        return EngineStats(
            models={
                name: queue.stats(device_s, self._loop.scheduler.weight(name)) for name, queue in self._queues.items()
            },
            busy=self._loop.busy.fraction(time.monotonic()),
            open_items=self._outcomes.open,
            open_batches=len(self._in_flight),
            on_device=len(self._loop.device_queue),
            turned_at=self._loop.turned_at,
            memory=self._loop.memory,
            device=self._choice,
        )

    def alive(self) -> bool:
        """Return True if the models are ready and the loop is running."""
        return self._loop.running

    def progress(self) -> Progress:
        """Return the loop's liveness, and the seconds since it or the device last made progress."""
        return Progress(self.alive(), self._loop.stalled_for(time.monotonic()))

    def set_weight(self, model: str, weight: float) -> None:
        """Change a model's share of device time."""
        self._loop.scheduler.set_weight(model, weight)

    def close(self, *, give_back: bool = True, timeout: float = STOP_S) -> None:
        """Stop the engine. Items on the device are still answered; all others are given back.

        Args:
            give_back: give back waiting items at once, instead of only those not settled within `timeout`.
            timeout: seconds to wait for the device. Items it has not finished by then are given back.
        """
        deadline = time.monotonic() + timeout
        if not give_back and self.alive():
            self.drain(timeout)
        self._give_back_waiting()
        self._loop.stop(max(0.0, deadline - time.monotonic()))
        # The loop has already done this unless it never ran or is stuck on the device.
        self._in_flight.end()
        if self._hold is not None:
            self._hold.release()

    def _queue(self, name: str, backend: Backend) -> ModelQueue:
        return ModelQueue(name, backend, self._outcomes, WAITING_BYTES, self._config.max_in_flight, self._room)

    def _open(self) -> Device:
        choose_attention(cudnn=self._config.cudnn_attention)
        device = self._open_device(self._device_name)
        self._choice = choice = device.choice
        shown = " ".join(filter(None, [choice.device, choice.name, choice.uuid]))
        progress.info("The device is %s: %s", shown, choice.why)
        try:
            self._hold = hold(self._device_name, choice, share=self._config.share)
            startup.prepare(device, list(self._queues.values()), self._config, self._precision)
        except BaseException as error:
            if is_lost(error, device):
                device.abandon(error)
            else:
                device.close()
            raise
        return device

    def _check_memory(self, device: Device) -> None:
        startup.check_memory(device, self._queues.values(), self._config)

    def _notice(self, model: str) -> None:  # noqa: ARG002 - one loop serves all models
        self._loop.notice()

    def _report_fatal(self, cause: BaseException) -> None:
        logger.critical("The engine has ended: %s", cause)
        if self._on_fatal is None:
            return
        try:
            self._on_fatal(cause)
        except Exception:
            logger.exception("The callback for the engine's end raised")
