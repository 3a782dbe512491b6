"""OpenTelemetry: a span a task, with what it consisted of (extra ``otel``, setting ``telemetry.traces``).

A task passes through many threads, so no span is ever current anywhere: its moments are noted on the way, and the spans
are made when its answer is confirmed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from legit_embedding.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from legit_embedding.wire.messages import Embedded

SERVICE = "legit_embedding"
_NS = 1_000_000_000


class Tracer(Protocol):
    """Begins traces."""

    def begin(self, raw: object, headers: Mapping[str, str] | None) -> Trace:
        """A task was taken over."""

    def close(self) -> None:
        """Send what is left."""


def make_tracer(worker: str) -> Tracer:
    """A tracer, with the provider that the process has, or else one that the ``OTEL_`` variables describe.

    Args:
        worker: the worker's identity.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        from legit_embedding.telemetry.otel import OtelTracer
    except ImportError as error:
        message = f"telemetry.traces: {error.name} is missing: pip install legit-embedding[otel]"
        raise ConfigError(message) from error
    return OtelTracer(worker)


class Trace:
    """One task's moments, and at the end its spans."""

    __slots__ = ("_began", "_computed", "_parent", "_stages", "_tracer")

    def __init__(self, tracer: Any, parent: Context) -> None:  # noqa: ANN401 - the extra may not be installed
        self._tracer = tracer
        self._parent = parent
        self._began = time.time_ns()
        self._stages: list[tuple[str, int, int]] = []
        self._computed: int | None = None

    def computed(self, prep_s: float, queue_s: float, compute_s: float) -> None:
        """The vector is there; what came before it lasted so long."""
        end = self._computed = time.time_ns()
        for name, seconds in (("compute", compute_s), ("queue", queue_s), ("prep", prep_s)):
            start = max(self._began, end - int(seconds * _NS))
            self._stages.append((name, start, end))
            end = start

    def end(self, task_id: str, model: str, outcome: Embedded | TaskError) -> None:
        """The answer is confirmed."""
        now = time.time_ns()
        if self._computed is not None:
            self._stages.append(("write", self._computed, now))
        attributes = {"legit.task_id": task_id, "legit.model": model}
        span = self._tracer.start_span(
            f"embed {model}".strip(), self._parent, attributes=attributes, start_time=self._began
        )
        for name, start, end in sorted(self._stages, key=lambda stage: stage[1:]):
            self._child(span, name, start, end)
        if isinstance(outcome, TaskError):
            _blame(span, outcome)
        span.end(now)

    def _child(self, span: Span, name: str, start: int, end: int) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracer.start_span(name, set_span_in_context(span, self._parent), start_time=start).end(end)


def _blame(span: Span, error: TaskError) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", error.code)
    # The detail may hold a URL that is nobody's business.
    span.set_status(Status(StatusCode.ERROR, error.code))
