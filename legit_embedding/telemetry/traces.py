"""A span per task, with what it consisted of; needs the extra ``otel``.

A task passes through many threads, so no span is ever current anywhere: its moments are noted on the way, and the spans
are made when its answer is confirmed.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from legit_embedding import __version__
from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from legit_embedding.wire.result import Embedded

SERVICE = "legit_embedding"
_NS = 1_000_000_000
FIELDS = ("traceparent", "tracestate")
"""Where W3C trace contexts stand: message headers, or fields of a task object."""


class OtelTracer:
    """Makes traces that go to the process's own provider, or over OTLP as the ``OTEL_`` variables say.

    Args:
        worker: the worker's identity.
    """

    def __init__(self, worker: str) -> None:
        self._own: TracerProvider | None = None
        provider = trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider):  # nobody has set one
            provider = self._own = _over_otlp(worker)
        self._tracer = trace.get_tracer(SERVICE, __version__, provider)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, raw: object, headers: Mapping[str, str] | None) -> Trace:
        """A task was taken over; the producer's context comes from the message, or from the task's own fields."""
        carrier = headers or _fields(raw)
        return Trace(self._tracer, self._propagator.extract(carrier))

    def close(self) -> None:
        """Send what is left."""
        if self._own is not None:
            self._own.shutdown()


def _over_otlp(worker: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    name = os.environ.get("OTEL_SERVICE_NAME") or SERVICE
    provider = TracerProvider(resource=Resource.create({"service.name": name, "service.instance.id": worker}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _fields(raw: object) -> dict[str, str]:
    if not isinstance(raw, dict):
        return {}
    return {name: value for name in FIELDS if isinstance(value := raw.get(name), str)}


class Trace:
    """One task's moments, and at the end its spans."""

    __slots__ = ("_began", "_computed", "_parent", "_stages", "_tracer")

    def __init__(self, tracer: Any, parent: Context) -> None:  # noqa: ANN401
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
        self._tracer.start_span(name, set_span_in_context(span, self._parent), start_time=start).end(end)


def _blame(span: Span, error: TaskError) -> None:
    span.set_attribute("error.type", error.code)
    # The detail may hold a URL that is nobody's business.
    span.set_status(Status(StatusCode.ERROR, error.code))
