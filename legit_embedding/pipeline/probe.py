"""Probes: a harmless item for each model that has been idle, so that its health is not a memory of better days."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from legit_embedding.engine.delivery import Delivery
from legit_embedding.errors import in_one_line
from legit_embedding.models.harmless import harmless_item

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.engine.stats import ModelStats
    from legit_embedding.errors import TaskError
    from legit_embedding.models.registry import Registry
    from legit_embedding.pipeline.protocols import Processor

logger = logging.getLogger(__name__)

TURN_S = 1.0
AGAIN_S = 5.0
"""Longest time, in seconds, until a model that has failed a probe is probed again."""


class Prober:
    """Embeds a text, or a grey image, with each model that has not embedded anything for `probe_s`.

    A probe is an interactive item in a batch of its own or of what else has come; its vector goes nowhere, and no task
    is counted. While a model has something to do it is not probed: its own items tell.

    Args:
        registry: the models.
        processor: embeds the probes.
        probe_s: seconds; 0 for no probes.
        is_running: returns True while the pipeline is neither starting nor stopping.
    """

    def __init__(
        self, registry: Registry, processor: Processor, probe_s: float, is_running: Callable[[], bool]
    ) -> None:
        self._registry = registry
        self._processor = processor
        self._probe_s = probe_s
        self._is_running = is_running
        self._since = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
        self._probes: dict[str, Probe] = {}

    def start(self) -> None:
        """Start the thread, if there is anything to do."""
        self._since = time.monotonic()
        if self._probe_s:
            self._thread.start()

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(TURN_S)

    def faults(self) -> dict[str, str]:
        """Describe, by model, why its last probe failed, or that it has not been answered in time."""
        now = time.monotonic()
        found = {name: probe.fault(now) for name, probe in self._probes.items()}
        return {name: fault for name, fault in found.items() if fault}

    def _run(self) -> None:
        while not self._over.wait(TURN_S):
            try:
                if self._is_running():
                    self._look()
            except Exception:
                logger.exception("The models could not be probed")

    def _look(self) -> None:
        stats = self._processor.stats()
        for name, model in stats.models.items() if stats is not None else ():
            if self._is_due(name, model):
                last = self._probes.get(name)
                self._probes[name] = Probe(name, self._health_timeout_s(name), last.error if last else "")
                self._send(self._probes[name])

    def _is_due(self, name: str, model: ModelStats) -> bool:
        if not model.loaded or model.waiting or (model.remote is not None and model.remote.problem):
            return False  # it is busy, or a remote's breaker probes it already
        last, last_ok_at = self._probes.get(name), model.last_ok_at or 0.0
        if last is None:
            return time.monotonic() - max(self._since, last_ok_at) >= self._probe_s
        if last.ended_at is None:
            return False
        if last_ok_at > last.ended_at:
            last.error = ""  # other items have been embedded since
        pause = min(AGAIN_S, self._probe_s) if last.error else self._probe_s
        return time.monotonic() - max(last.ended_at, last_ok_at) >= pause

    def _send(self, probe: Probe) -> None:
        front = self._processor.front(probe.model)
        if front is None:
            return
        try:
            probe.prepared = harmless_item(self._registry.recipe(probe.model), self._registry.tower(probe.model).kind)
        except Exception as error:  # noqa: BLE001 - whatever it is, the model's items would fail like this
            probe.ended(in_one_line(error))
            return
        front.submit(probe)

    def _health_timeout_s(self, model: str) -> float | None:
        config = self._registry.tower(model).config
        return config.health_timeout_s if model in self._registry.remotes() else None


class Probe(Delivery):
    """One probe, and how it ended.

    Args:
        model: the model's name.
        health_timeout_s: seconds after which a probe without an answer is a fault; None for never.
        known: why the probe before this one failed, which stands until this one has ended.
    """

    interactive = True
    __slots__ = ("began_at", "ended_at", "error", "health_timeout_s")

    def __init__(self, model: str, health_timeout_s: float | None, known: str = "") -> None:
        self.model = model
        self.cancelled = None
        self.deadline = None
        self.began_at = time.monotonic()
        self.ended_at: float | None = None
        self.error = known
        self.health_timeout_s = health_timeout_s

    def done(self, vector: NDArray[np.float32], queue_s: float, compute_s: float) -> None:  # noqa: ARG002
        """Note that the model works."""
        self.ended("")

    def failed(self, error: TaskError) -> None:
        """Note why it does not."""
        self.ended(error.detail)

    def given_back(self) -> None:
        """Note that the worker stops, which is no fault of the model's."""
        self.ended("")

    def ended(self, error: str) -> None:
        """Note an outcome, and log a failure that is news."""
        if error and error != self.error:
            logger.error("The model %s has failed a probe: %s", self.model, error)
        self.error = error
        self.ended_at = time.monotonic()

    def fault(self, now: float) -> str:
        """Describe what is wrong, in words; empty if nothing is."""
        if self.ended_at is not None or self.error:
            return self.error
        if self.health_timeout_s is not None and now - self.began_at > self.health_timeout_s:
            return f"no answer to a probe for more than {self.health_timeout_s:g} s (health_timeout_s)"
        return ""
