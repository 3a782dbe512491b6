"""The line that says that the worker is ready: its models, where they are, and what it reads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery import signals

from legit_embedding.progress import logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from legit_embedding.config import Kind
    from legit_embedding.pipeline.pipeline import Pipeline


class Readiness:
    """Announces once that the worker is ready; Celery sends its signal again after each lost connection.

    Args:
        began: when the start began, by `time.monotonic`.
    """

    def __init__(self, began: float) -> None:
        self._began = began

    def expect(self, pipeline: Pipeline) -> None:
        """Announce this pipeline when the worker has its broker."""
        self._pipeline = pipeline
        signals.worker_ready.connect(self._announce)

    def _announce(self, sender: Any, **_: object) -> None:  # noqa: ANN401 - Celery's consumer
        signals.worker_ready.disconnect(self._announce)
        queues = sorted(str(name) for name in sender.app.amqp.queues.consume_from)
        logger.info("%s", _line(self._pipeline, queues, time.monotonic() - self._began))


def _line(pipeline: Pipeline, queues: list[str], seconds: float) -> str:
    settings = pipeline.settings
    models = listed(_model(name, settings.models[name].serves) for name in pipeline.registry.names())
    engine = pipeline.processor.stats()
    device = engine.device.device if engine is not None and engine.device is not None else ""
    parts = [f"{models or 'no models'}{f' on {device}' if device else ''}", f"queues {', '.join(queues)}"]
    parts += [f"stream {settings.streams.tasks}"] if settings.streams.consume else []
    return f"ready in {seconds:.1f} s: {', '.join(parts)}"


def _model(name: str, serves: tuple[Kind, ...]) -> str:
    return f"{name} ({', '.join(serves)})" if len(serves) > 1 else name


def listed(names: Iterable[str]) -> str:
    """Join names as in a sentence."""
    *first, last = [*names] or [""]
    return f"{', '.join(first)} and {last}" if first else last
