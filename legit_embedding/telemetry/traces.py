"""One span per task, with child spans for its stages; needs the extra ``otel``.

A task passes through several threads, so no span is ever current: timestamps are recorded on the way, and the spans are
created when its result is confirmed.
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
"""Fields of a W3C trace context, in the message headers or in the task object."""


class OtelTracer:
    """Creates traces, exported by the process's own provider or over OTLP as the ``OTEL_`` variables configure.

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
        """Start a received task's trace; the producer's context comes from the message or from the task's fields."""
        carrier = headers or _fields(raw)
        return Trace(self._tracer, self._propagator.extract(carrier))

    def close(self) -> None:
        """Export the remaining spans."""
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
    """Records the timestamps of one task, and creates its spans at the end."""

    __slots__ = ("_began", "_computed", "_parent", "_stages", "_tracer")

    def __init__(self, tracer: Any, parent: Context) -> None:  # noqa: ANN401
        self._tracer = tracer
        self._parent = parent
        self._began = time.time_ns()
        self._stages: list[tuple[str, int, int]] = []
        self._computed: int | None = None

    def computed(self, prep_s: float, queue_s: float, compute_s: float) -> None:
        """Record that the vector is computed, and the duration of each stage before that."""
        end = self._computed = time.time_ns()
        for name, seconds in (("compute", compute_s), ("queue", queue_s), ("prep", prep_s)):
            start = max(self._began, end - int(seconds * _NS))
            self._stages.append((name, start, end))
            end = start

    def end(self, task_id: str, model: str, outcome: Embedded | TaskError) -> None:
        """Create the spans: the result is confirmed."""
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
    # Only the code: the detail may contain a private URL.
    span.set_status(Status(StatusCode.ERROR, error.code))
