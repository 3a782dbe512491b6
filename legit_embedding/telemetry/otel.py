"""The half of tracing that needs the extra ``otel``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from legit_embedding import __version__
from legit_embedding.telemetry.traces import SERVICE, Trace

if TYPE_CHECKING:
    from collections.abc import Mapping

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
