"""The figures of the page: what flows through the worker at this moment."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from legit_embedding import __version__
from legit_embedding.pipeline.snapshot import WINDOW_S
from legit_embedding.pipeline.task_counts import OK
from legit_embedding.sinks.writer import StreamWriter
from legit_embedding.sources.http.group_watch import GroupWatch
from legit_embedding.telemetry.figures import Rates, of_model
from legit_embedding.telemetry.scene import seconds_left

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.engine.stats import EngineStats
    from legit_embedding.pipeline.pipeline import Pipeline
    from legit_embedding.pipeline.snapshot import Snapshot
    from legit_embedding.telemetry.fleet import Shown
    from legit_embedding.telemetry.scene import Scene

HISTORY = 300
"""The number of events whose rate is remembered for a page that is opened later: five minutes."""
OF_WORKER = ("worker", "state", "problem", "items_per_s", "in_flight", "device_busy", "heartbeat_age_s")


class Flow:
    """Makes the page's events. Not thread-safe, unless it says so.

    Args:
        pipeline: the worker's pipeline.
        state: returns the worker's state and its problems.
        embeds: the worker embeds over HTTP, so that the page may offer to try a model.
        details: show what failed, which may quote tasks, and not only how often.
    """

    def __init__(
        self, pipeline: Pipeline, state: Callable[[], tuple[str, list[str]]], *, embeds: bool, details: bool
    ) -> None:
        self._pipeline = pipeline
        self._state = state
        self._embeds = embeds
        self._details = details
        self._group = GroupWatch(pipeline) if isinstance(pipeline.writer, StreamWriter) else None
        self._rates = Rates()
        self._looked_at = float("-inf")
        self._history: deque[tuple[float, float]] = deque(maxlen=HISTORY)

    def look(self) -> dict[str, Any]:
        """Return the figures of this moment; called about once per second while anybody looks."""
        now, (state, problems) = self._pipeline.snapshot(), self._state()
        rates = self._update_rates(now)
        scene = self._group.latest() if self._group is not None else None
        left = scene.empty_in_s if scene is not None else seconds_left(now.in_flight, rates.get("", 0.0))
        return {
            "worker": self._pipeline.worker,
            "version": __version__,
            "state": state,
            "problems": problems,
            "notices": now.notices,
            "embeds": self._embeds,
            "device": _device(now.engine) if now.engine is not None else None,
            "items_per_s": rates.get(""),
            "embedded": now.embedded,
            "failed": now.failed,
            "stages": _stages(now) | {"queued": scene.waiting if scene is not None else None},
            "empty_in_s": left,
            "oldest_s": _oldest(now, scene),
            "models": [self._model(queue, now, rates.get(queue, 0.0)) for queue in now.models],
            "errors": _errors(now),
            "last_errors": _last_errors(now) if self._details else [],
            "group": _group(scene) if scene is not None else None,
            "group_problem": self._group.problem if self._group is not None else "",
        }

    def history(self) -> list[tuple[float, float]]:
        """Return how many seconds ago each of the last events was, and its rate, oldest first; from any thread."""
        now = time.monotonic()
        return [(round(now - at, 1), round(rate, 2)) for at, rate in self._history.copy()]

    def close(self) -> None:
        """Look at Redis no more. Idempotent."""
        if self._group is not None:
            self._group.close()

    def _update_rates(self, now: Snapshot) -> dict[str, float]:
        """Return the rates by model and the total; empty for the first look after a while, which has none yet."""
        is_first = now.at - self._looked_at > WINDOW_S
        self._looked_at = now.at
        rates = self._rates.update(now)
        if is_first:
            return {}
        self._history.append((now.at, rates[""]))
        return rates

    def _model(self, queue: str, now: Snapshot, items_per_s: float) -> dict[str, Any]:
        model, tower = now.models[queue], self._pipeline.registry.tower(queue)
        dimension = None
        with suppress(Exception):  # it is not loaded yet
            dimension = self._pipeline.registry.dim(tower.model)
        return of_model(model, items_per_s) | {
            "queue": queue,
            "model": tower.model,
            "kind": tower.kind,
            "dimension": dimension,
            "loaded": model.loaded,
            "oldest_s": model.oldest_s,
            "remote": model.remote.where if model.remote is not None else None,
        }


def _stages(now: Snapshot) -> dict[str, int]:
    """The tasks in flight by stage; what is in none of the others is being prepared."""
    waiting, writing = now.device_waiting, now.writer.pending
    computing = max(0, now.engine.open_items - waiting) if now.engine is not None else 0
    prep = max(sum(now.prep_waiting.values()), now.in_flight - waiting - computing - writing)
    return {"prep": prep, "waiting": waiting, "device": computing, "writing": writing}


def _device(engine: EngineStats) -> dict[str, Any]:
    choice, memory = engine.device, engine.memory
    return {
        "device": choice.device if choice is not None else "",
        "name": choice.name if choice is not None else "",
        "busy": round(engine.busy, 3),
        "memory_used": memory.used if memory.is_gpu else None,
        "memory_free": memory.free if memory.is_gpu else None,
    }


def _errors(now: Snapshot) -> list[dict[str, Any]]:
    """The number of errors since the start by code and model, the most frequent first."""
    counts = sorted(now.outcomes.items(), key=lambda item: -item[1])
    return [{"model": model, "code": code, "count": count} for (model, code), count in counts if code != OK]


def _last_errors(now: Snapshot) -> list[dict[str, Any]]:
    """The last errors, newest first."""
    at = time.time()
    return [asdict(each) | {"age_s": round(max(0.0, at - each.at), 1)} for each in reversed(now.last_errors)]


def _oldest(now: Snapshot, scene: Scene | None) -> float | None:
    ages = [model.oldest_s for model in now.models.values()] + [scene.oldest_s if scene is not None else None]
    return max((age for age in ages if age is not None), default=None)


def _group(scene: Scene) -> dict[str, Any]:
    return {
        "items_per_s": scene.items_per_s,
        "waiting": scene.waiting,
        "workers": [_worker(each) for each in scene.workers],
        "lost": scene.lost,
    }


def _worker(shown: Shown) -> dict[str, Any]:
    return {name: getattr(shown, name) for name in OF_WORKER}
