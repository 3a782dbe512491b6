"""``celery inspect batching`` and ``celery control batching``: show and change how models share the device.

    celery -A legit_embedding inspect batching
    celery -A legit_embedding control batching minilm weight=2 linger_ms=5 max_batch=64

A change lasts until the worker ends; a restarted worker uses the settings.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from celery.worker.control import nok, ok

from legit_embedding import process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from legit_embedding.engine.front import Front
    from legit_embedding.engine.stats import ModelStats, RemoteStats
    from legit_embedding.pipeline.pipeline import Pipeline

N = TypeVar("N", int, float)

logger = logging.getLogger(__name__)

AUTO = "auto"
MAX_LINGER_MS = 60_000
LEAST_WEIGHT, MOST_WEIGHT = 0.001, 1000.0
MOST_IN_BATCH = 1_000_000


class _RefusedError(ValueError):
    """A change that is rejected, with the reason."""


def batching(worker: Any, words: Sequence[str] = (), **named: Any) -> Any:  # noqa: ANN401, ARG001 - Celery's signature
    """Report how models share the device; with arguments, change a model's share or its batches.

    Args:
        worker: Celery's state of the worker.
        words: command-line arguments: a model, and changes such as ``weight=2``.
        named: the same as keywords: ``model``, and any of ``weight``, ``linger_ms`` and ``max_batch``.
    """
    if not process.is_running():
        return nok("this worker has no pipeline yet")
    pipeline = process.current()
    if not words and not named:
        return ok(report(pipeline))
    if not (isinstance(words, list | tuple) and all(isinstance(word, str) for word in words)):
        return nok("words: expected a list of text: a model, and changes like weight=2")
    try:
        model, changes = _understood(pipeline, words, named)
        front = pipeline.processor.front(model)
        if front is None:
            return nok("a prep-only worker batches nothing")
        _apply(front, model, changes)
    except _RefusedError as refusal:
        return nok(str(refusal))
    logger.warning("Changed by remote control: %s of %s", ", ".join(f"{k}={v}" for k, v in changes.items()), model)
    return ok(report(pipeline)["models"][model])


def report(pipeline: Pipeline) -> dict[str, Any]:
    """The current state as JSON values, readable for people too."""
    snapshot = pipeline.snapshot()
    engine = snapshot.engine
    return {
        "in_flight": snapshot.in_flight,
        "device_busy": round(engine.busy, 3) if engine is not None else 0.0,
        "memory_used_bytes": engine.memory.used if engine is not None else 0,
        "memory_free_bytes": engine.memory.free if engine is not None else 0,
        "models": {
            name: {"waiting_for_prep": waiting} | (_model(snapshot.models[name]) if name in snapshot.models else {})
            for name, waiting in snapshot.prep_waiting.items()
        },
    }


def _model(model: ModelStats) -> dict[str, Any]:
    if model.remote is not None:
        return _remote(model, model.remote)
    return {
        "waiting_for_device": model.waiting,
        "items": model.items,
        "batches": model.batches,
        "batch_size_avg": round(model.batch_size_avg, 1),
        "batch_fill": round(model.batches_seen.fill.mean, 3),
        "padding_waste": round(model.padding_waste, 3),
        "device_share": round(model.share, 3),
        "cache_hits": model.cache_hits,
        "cache_misses": model.cache_misses,
        "weight": model.weight,
        "linger_ms": model.linger_ms,
        "max_batch": model.max_batch or AUTO,
        "full_batch_cost": model.target,
        "largest_batch_cost": model.ceiling,
        "memory_planned_bytes": model.planned_bytes,
    }


def _remote(model: ModelStats, remote: RemoteStats) -> dict[str, Any]:
    return {
        "remote": remote.where,
        "waiting_for_remote": model.waiting,
        "items": model.items,
        "batches": model.batches,
        "batch_size_avg": round(model.batch_size_avg, 1),
        "batch_fill": round(model.batches_seen.fill.mean, 3),
        "linger_ms": model.linger_ms,
        "max_batch": model.max_batch,
        "requests": remote.requests,
        "max_requests": remote.max_requests,
        "retries": remote.retries,
        "errors": dict(remote.errors),
        "breaker": "open" if remote.is_open else "closed",
        "problem": remote.problem,
    }


def _understood(pipeline: Pipeline, words: Sequence[str], named: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Parse the model and the new value of each field, all validated.

    Raises:
        _RefusedError: an argument is invalid.
    """
    given = dict(named)
    model = str(given.pop("model", None) or (words[0] if words else ""))
    names = pipeline.registry.queues()
    if model not in names:
        message = f"there is no model {model!r}; there are {', '.join(names)}"
        raise _RefusedError(message)
    rest = words if "model" in named else words[1:]
    given |= dict(_pair(word) for word in rest)
    if not given:
        message = f"nothing to change: name any of {', '.join(_READ)}, like weight=2"
        raise _RefusedError(message)
    return model, {field: _value(field, value) for field, value in given.items()}


def _pair(word: str) -> tuple[str, str]:
    field, equals, value = word.partition("=")
    if not equals:
        message = f"{word!r} is no change like weight=2"
        raise _RefusedError(message)
    return field, value


def _value(field: str, value: object) -> float | int | None:
    read_value = _READ.get(field)
    if read_value is None:
        message = f"there is no {field!r} to change, only {', '.join(_READ)}"
        raise _RefusedError(message)
    try:
        return read_value(str(value))
    except ValueError as error:
        message = f"{field}={value}: {error}"
        raise _RefusedError(message) from None


def _weight(text: str) -> float:
    return _number(float, text, LEAST_WEIGHT, MOST_WEIGHT, f"a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}")


def _linger_ms(text: str) -> float:
    return _number(float, text, 0, MAX_LINGER_MS, f"a time from 0 to {MAX_LINGER_MS} ms")


def _max_batch(text: str) -> int | None:
    if text in {AUTO, "None"}:
        return None
    wanted = f"a whole number from 1 to {MOST_IN_BATCH}, or {AUTO} for what memory and speed allow"
    return _number(int, text, 1, MOST_IN_BATCH, wanted)


def _number(kind: Callable[[str], N], text: str, least: float, most: float, wanted: str) -> N:
    """Parse the number in `text`.

    Raises:
        ValueError: it is not a number, or is out of range; the message is `wanted`.
    """
    try:
        number = kind(text)
    except ValueError:
        raise ValueError(wanted) from None
    if not least <= number <= most:  # also rejects NaN
        raise ValueError(wanted)
    return number


_READ: dict[str, Callable[[str], float | int | None]] = {
    "weight": _weight,
    "linger_ms": _linger_ms,
    "max_batch": _max_batch,
}


_SETTERS = {"weight": "set_weight", "linger_ms": "set_linger", "max_batch": "set_max_batch"}


def _apply(front: Front, model: str, changes: Mapping[str, Any]) -> None:
    """Make the changes, or none of them.

    Raises:
        _RefusedError: the model is remote, and a share of the device is asked for.
    """
    setters = {field: getattr(front, _SETTERS[field], None) for field in changes}
    if None in setters.values():
        message = f"weight: {model} is a remote model and has no share of the device"
        raise _RefusedError(message)
    for field, setter in setters.items():
        if setter is not None:
            setter(model, changes[field])
