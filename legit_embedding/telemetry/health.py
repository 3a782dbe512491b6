"""Health checks over a snapshot of the pipeline."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from legit_embedding.engine.stats import ModelStats
    from legit_embedding.pipeline.snapshot import Observed, Snapshot

State = Literal["starting", "running", "degraded", "unhealthy", "stopping"]

STALL_S = 30.0
"""Longest time without progress for the device loop or the device. By plan a batch holds a device for at most 2 s."""
WELL = frozenset({"running", "degraded"})
"""States of a worker that does its work; degraded, some of it waits for a remote model."""
FAILURES = 8
"""Consecutive batches without a single good vector before a model counts as failing. A bad item alone in its batch
counts too, so a few such batches do not indicate a bad model."""


def state_of(snapshot: Snapshot, others: Iterable[str] = (), stall_s: float = STALL_S) -> tuple[State, list[str]]:
    """Return a worker's state and its problems, those of its pipeline and `others`."""
    if snapshot.phase != "running":
        return snapshot.phase, []
    found = [*problems(snapshot, stall_s), *others]
    if found:
        return "unhealthy", found
    away = degradations(snapshot)
    return ("degraded" if away else "running"), away


def report(pipeline: Observed, state: str, found: list[str]) -> tuple[HTTPStatus, dict[str, Any]]:
    """Return the status and the body of ``GET /health`` (CONTRACT section 7)."""
    settings, snapshot = pipeline.settings, pipeline.snapshot()
    towers = {queue: pipeline.registry.tower(queue) for queue in pipeline.registry.queues()}
    model = settings.default_model("text") or settings.default_model("image")
    body = {
        "status": "ok" if state == "running" else state,
        "model": model,
        "dimension": _dimension(pipeline, model) if model is not None else None,
        "models": {
            name: {"kind": "+".join(config.serves), "dimension": _dimension(pipeline, name)}
            | _of_towers(snapshot, [queue for queue, tower in towers.items() if tower.model == name])
            for name, config in settings.models.items()
        },
        "problems": found,
    }
    return HTTPStatus.OK if state in WELL else HTTPStatus.SERVICE_UNAVAILABLE, body


def _of_towers(snapshot: Snapshot, queues: Iterable[str]) -> dict[str, Any]:
    """Describe the state of a model by its queues: of two towers, that of the one that is worse off."""
    states = [state_of_model(model, snapshot.at) for queue, model in snapshot.models.items() if queue in queues]
    if len(states) < 2:  # noqa: PLR2004 - two towers
        return states[0] if states else {"loaded": False, "last_ok_s": None, "waiting": 0}
    ages = [each["last_ok_s"] for each in states]
    return states[0] | {
        "loaded": all(each["loaded"] for each in states),
        "last_ok_s": None if None in ages else max(ages),
        "waiting": sum(each["waiting"] for each in states),
    }


def state_of_model(model: ModelStats, now: float) -> dict[str, Any]:
    """Describe the state of one queue's model; `now` is by `time.monotonic`."""
    state: dict[str, Any] = {
        "loaded": model.loaded,
        "last_ok_s": None if model.last_ok_at is None else round(max(0.0, now - model.last_ok_at), 1),
        "waiting": model.waiting,
    }
    return state if model.remote is None else state | {"breaker": "open" if model.remote.is_open else "closed"}


def is_alive(snapshot: Snapshot) -> bool:
    """Return True unless a restart would help: a thread has ended, or the device makes no progress."""
    if snapshot.phase != "running":
        return True
    return snapshot.dead_thread is None and not is_stuck(snapshot, STALL_S)


def problems(snapshot: Snapshot, stall_s: float = STALL_S) -> list[str]:
    """Return the problems of a started pipeline, one sentence each; an empty list if it is healthy."""
    return [*_of_processor(snapshot, stall_s), *snapshot.faults]


def degradations(snapshot: Snapshot) -> list[str]:
    """Describe each remote model that is away or slow in a sentence: its tasks wait, and all others are served."""
    return [
        f"the remote model {name} at {model.remote.where} is {'away' if model.remote.is_open else 'slow'}: {problem}"
        for name, model in snapshot.models.items()
        if model.remote is not None and (problem := model.remote.problem or snapshot.probes.get(name))
    ]


def is_stuck(snapshot: Snapshot, stall_s: float) -> bool:
    """True if the device loop is alive but it or the device has made no progress for longer than ``stall_s``."""
    progress = snapshot.progress
    return progress is not None and progress.alive and progress.stalled_s > stall_s


def _of_processor(snapshot: Snapshot, stall_s: float) -> Iterator[str]:
    if snapshot.progress is None:
        return
    if not snapshot.progress.alive:
        yield "the device loop has ended"
    elif is_stuck(snapshot, stall_s):
        yield f"the device loop has made no progress for more than {stall_s:g} s"
    for name, model in snapshot.models.items():
        if model.failed_in_row >= FAILURES:
            yield f"the model {name} has failed {model.failed_in_row} times in a row"
        elif model.remote is None and name in snapshot.probes:
            yield f"the model {name} has failed a probe: {snapshot.probes[name]}"


def _dimension(pipeline: Observed, model: str) -> int | None:
    """Return the dimension of a model's vectors, or None until it is loaded."""
    with suppress(Exception):
        return pipeline.registry.dim(model)
    return None
