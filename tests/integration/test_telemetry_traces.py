"""Spans of real tasks, as OpenTelemetry's own SDK collects them."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, get_tracer_provider

from legit_embedding.config import Settings
from legit_embedding.errors import ConfigError
from legit_embedding.pipeline.admission import Terms
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.telemetry import traces as traces_module
from legit_embedding.telemetry.tracing import make_tracer
from legit_embedding.wire.result import Origin
from tests.told import OnOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NULL = {"kind": "text", "backend": "legit_embedding.models.null:NullModel", "options": {"batch_s": 0.02}}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where spans end that the process's own provider gets."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces_module.trace, "get_tracer_provider", lambda: provider)
    return exporter


@pytest.fixture
def start(redis_url: str) -> Iterator[Callable[[bool], Pipeline]]:
    made: list[Pipeline] = []

    def start(traces: bool) -> Pipeline:
        settings = Settings(redis_url=redis_url, device="cpu", models={"null": NULL}, telemetry={"traces": traces})
        tracer = make_tracer("celery@pod-1") if traces else None
        made.append(Pipeline(settings, "celery@pod-1", 1, tracer=tracer))
        made[0].start()
        return made[0]

    yield start
    for pipeline in made:
        pipeline.stop()


def embed(pipeline: Pipeline, task: dict[str, Any], headers: dict[str, str] | None = None) -> None:
    answered = threading.Event()
    caller = OnOutcome(lambda _: answered.set())
    pipeline.submit({"task_id": "t"} | task, Origin("local", "t"), caller, Terms(headers=headers))
    assert answered.wait(20)


@pytest.mark.parametrize("where", ["headers", "fields"])
def test_a_task_follows_its_producers_trace(
    start: Callable[[bool], Pipeline], spans: InMemorySpanExporter, where: str
) -> None:
    carried = {"traceparent": TRACEPARENT}
    task = {"text": "x"} | (carried if where == "fields" else {})
    embed(start(True), task, carried if where == "headers" else None)
    found = {span.name: span for span in spans.get_finished_spans()}
    assert set(found) == {"embed null", "prep", "queue", "compute", "write"}
    root = found.pop("embed null")
    assert {f"{span.context.trace_id:032x}" for span in (root, *found.values())} == {TRACE}
    assert f"{root.parent.span_id:016x}" == PARENT
    assert {span.parent.span_id for span in found.values()} == {root.context.span_id}
    assert dict(root.attributes) == {"legit.task_id": "t", "legit.model": "null"}
    stages = [found[name] for name in ("prep", "queue", "compute", "write")]
    assert stages[0].start_time >= root.start_time
    assert [span.end_time for span in stages[:-1]] == [span.start_time for span in stages[1:]]
    assert stages[-1].end_time == root.end_time
    assert stages[2].end_time - stages[2].start_time >= 20_000_000, "what the batch computed"


def test_a_task_without_a_producers_trace_begins_one(
    start: Callable[[bool], Pipeline], spans: InMemorySpanExporter
) -> None:
    embed(start(True), {"text": "x", "traceparent": "nonsense"})
    [root] = [span for span in spans.get_finished_spans() if span.name == "embed null"]
    assert root.parent is None


def test_an_error_shows_its_code_and_no_detail(start: Callable[[bool], Pipeline], spans: InMemorySpanExporter) -> None:
    embed(start(True), {"text": "x", "model": "https://h/?secret"})
    [span] = spans.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "unknown_model")
    assert span.attributes["error.type"] == "unknown_model"
    assert "secret" not in span.to_json()


def test_off_there_is_nothing(start: Callable[[bool], Pipeline], spans: InMemorySpanExporter) -> None:
    pipeline = start(False)
    embed(pipeline, {"text": "x", "traceparent": TRACEPARENT})
    assert pipeline._tracer is None
    assert not spans.get_finished_spans()


def test_the_variables_of_opentelemetry_say_where_spans_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "embedding")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    before = get_tracer_provider()
    tracer = traces_module.OtelTracer("celery@pod-1")
    try:
        resource = tracer._own.resource.attributes
        assert (resource["service.name"], resource["service.instance.id"]) == ("embedding", "celery@pod-1")
        assert get_tracer_provider() is before, "other libraries' spans stay their own"
    finally:
        tracer.close()


def test_without_the_extra_the_start_is_refused_in_one_line(
    start: Callable[[bool], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "legit_embedding.telemetry.traces")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ConfigError, match=r"^telemetry.traces: .* is missing: pip install legit-embedding\[otel\]$"):
        start(True)
