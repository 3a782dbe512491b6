"""An error that nobody foresaw, at every stage between a source and its answer: no task is left unsettled."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
import redis

from legit_embedding.config import Settings
from legit_embedding.errors import GivenBackError, TaskError
from legit_embedding.models.null import NullModel, NullRecipe
from legit_embedding.pipeline import job as jobs
from legit_embedding.pipeline.admission import Admission
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.pool.stream_step import stream_source
from legit_embedding.prep.stage import PrepStage
from legit_embedding.sinks.answer import Answer
from legit_embedding.sinks.commit import Batch
from legit_embedding.sinks.routing import Router
from legit_embedding.sources.stream.source import StreamSource
from legit_embedding.wire import stream_entry as entries
from legit_embedding.wire.result import Origin
from legit_embedding.wire.task import TaskObject
from tests.told import OnOutcome
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NULL = {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}

# stage: what raises there, and what becomes of a task that Celery brought: an error, its return to the queue, or a
# good answer all the same
STAGES: dict[str, tuple[Callable[[Pipeline], tuple[object, str]], str]] = {
    "read": (lambda _: (entries, "_task_object"), "ok"),
    "address": (lambda _: (TaskObject, "address"), "error"),
    "parse": (lambda _: (TaskObject, "parse"), "error"),
    "admit": (lambda _: (Admission, "admit"), "error"),
    "stage": (lambda _: (PrepStage, "submit"), "error"),
    "room": (lambda pipeline: (pipeline.stage, "_has_room"), "error"),
    "prep": (lambda _: (NullRecipe, "texts"), "error"),
    "count": (lambda pipeline: (pipeline.stage._work, "_prepared"), "ok"),
    "engine": (lambda pipeline: (pipeline.processor, "submit"), "error"),
    "collate": (lambda _: (NullModel, "collate"), "error"),
    "encode": (lambda _: (jobs, "encode_finite"), "error"),
    "put": (lambda pipeline: (pipeline.writer, "put"), "left"),
    "weigh": (lambda _: (Answer, "of"), "left"),
    "route": (lambda _: (Router, "route"), "left"),
    "pack": (lambda _: (Batch, "_pack"), "error"),
    "commit": (lambda _: (Batch, "commit"), "error"),
    "written": (lambda pipeline: (pipeline._accounts.counts, "answered"), "ok"),
    "settle": (lambda _: (StreamSource, "settled"), "ok"),
}


class UnforeseenError(Exception):
    """Not one that anything here expects."""


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def pipeline(redis_url: str) -> Iterator[Pipeline]:
    settings = Settings(
        redis_url=redis_url, device="cpu", models={"null": NULL}, streams={"claim_idle_ms": 500, "block_ms": 100}
    )
    pipeline = Pipeline(settings, "celery@pod-1", 1)
    pipeline.start()
    pipeline.add_source(stream_source(pipeline))
    yield pipeline
    pipeline.stop()


def outcome(written: Any) -> str:
    if isinstance(written, GivenBackError):
        return "left"
    return "error" if isinstance(written.result.outcome, TaskError) else "ok"


@pytest.mark.parametrize("stage", STAGES)
def test_no_task_is_left_unsettled(
    pipeline: Pipeline,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stage: str,
) -> None:
    where, expected = STAGES[stage]
    raised: list[str] = []

    def raise_unforeseen(*args: object, **options: object) -> None:
        raised.append(stage)
        raise UnforeseenError(stage)

    def submit(task_id: str) -> Future[Any]:
        future: Future[Any] = Future()
        pipeline.submit({"task_id": task_id, "text": "x"}, Origin("celery", task_id), OnOutcome(future.set_result))
        return future

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "legit_embedding"):
        patch.setattr(*where(pipeline), raise_unforeseen)
        entry_id = client.xadd("embedding_tasks", {"text": "x"})
        wait_for(lambda: raised, 20, "the error, of the stream's task")
        wait_for(lambda: "UnforeseenError" in caplog.text, 20, "the log to say so")
        assert outcome(submit("bad").result(timeout=20)) == expected
        wait_for(lambda: pipeline.in_flight == 0, 20, f"the stream's task to be settled at {stage}")

    assert outcome(submit("good").result(timeout=20)) == "ok"

    def answers() -> list[str]:
        found = [fields["source"] for _, fields in client.xrange("embedding_results")]
        buried = [fields["original_id"] for _, fields in client.xrange("embedding_tasks:dead")]
        return [source for source in (*found, *buried) if source == entry_id]

    wait_for(answers, 30, "the stream's task to be answered")
    pipeline.stop_reading()
    assert pipeline.drain(5), "a warm stop ends"
    assert answers() == [entry_id]


def test_what_is_written_nowhere_holds_no_shutdown(pipeline: Pipeline, client: redis.Redis) -> None:
    for key in ("embedding_results", "embedding_tasks:dead"):
        client.set(key, "not a stream")
    future: Future[Any] = Future()
    pipeline._parking._delay_s = 3600
    pipeline.submit({"task_id": "a", "text": "x"}, Origin("celery", "a"), OnOutcome(future.set_result))
    wait_for(lambda: len(pipeline._parking), 20, "the answer to be refused")
    assert not future.done(), "back in the queue at once, it would be taken at once"
    pipeline.stop_reading()
    assert outcome(future.result(timeout=5)) == "left"
    assert pipeline.drain(5)
