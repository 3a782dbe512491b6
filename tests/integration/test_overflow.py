"""A result stream at its limit: nothing that a consumer group has not acknowledged is trimmed."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
import redis

from legit_embedding.config import Settings
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.pool.stream_step import stream_source
from legit_embedding.telemetry.health import problems
from legit_embedding.wire.result import Origin
from tests.told import OnOutcome
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NULL = {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}
RESULTS = "embedding_results"
LIMIT = 300
TASKS = 1500
NODE = 100
"""Entries of one node of a stream, which are trimmed together."""


@pytest.fixture
def client(any_redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(any_redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def start(any_redis_url: str) -> Iterator[Callable[..., Pipeline]]:
    made: list[Pipeline] = []

    def start(**streams: Any) -> Pipeline:
        settings = Settings(
            redis_url=any_redis_url,
            device="cpu",
            models={"null": NULL},
            streams={"result_maxlen": LIMIT, "block_ms": 100} | streams,
            engine={"max_in_flight": 64},
        )
        made.append(Pipeline(settings, "celery@pod-1", 1))
        made[0].start()
        made[0].add_source(stream_source(made[0]))
        return made[0]

    yield start
    for pipeline in made:
        pipeline.stop()


def send(client: redis.Redis, count: int = TASKS) -> None:
    with client.pipeline(transaction=False) as batch:
        for number in range(count):
            batch.xadd("embedding_tasks", {"task_id": str(number), "text": f"text {number}"})
        batch.execute()


def read(client: redis.Redis, group: str = "shop") -> list[tuple[str, dict[str, str]]]:
    found: Any = client.xreadgroup(group, "c", {RESULTS: ">"}, count=LIMIT)
    return found[0][1] if found else []


def at_rest(pipeline: Pipeline) -> bool:
    return not pipeline.processor.engine.stats().open_items and not len(pipeline.writer._backlog)


def test_a_consumer_that_stops_for_a_while_loses_nothing(client, start):
    client.xgroup_create(RESULTS, "shop", id="0", mkstream=True)
    client.xgroup_create(RESULTS, "quick", id="0")
    pipeline = start()
    send(client)
    wait_for(lambda: pipeline.writer.results_full, 20, "the stream to be full")
    wait_for(lambda: at_rest(pipeline), 20, "what is on its way to be answered")
    (problem,) = problems(pipeline.snapshot())
    assert problem.startswith("results_full: ")
    assert repr(RESULTS) in problem
    left = client.xlen("embedding_tasks")
    assert 0 < left < TASKS

    seen = []
    unacknowledged = read(client)
    seen += [fields["task_id"] for _, fields in unacknowledged]
    while entries := read(client, "quick"):
        client.xack(RESULTS, "quick", *(entry_id for entry_id, _ in entries))
    wait_for(lambda: "'shop'" in pipeline.writer.results_full, 10, "health to name the group that holds it up")
    assert client.xlen("embedding_tasks") == left, "what is read and not acknowledged counts too"

    client.xack(RESULTS, "shop", *(entry_id for entry_id, _ in unacknowledged))
    client.xgroup_destroy(RESULTS, "quick")

    def consume() -> bool:
        entries = read(client)
        seen.extend(fields["task_id"] for _, fields in entries)
        if entries:
            client.xack(RESULTS, "shop", *(entry_id for entry_id, _ in entries))
        return len(seen) >= TASKS

    wait_for(consume, 60, "the rest to be answered")
    assert sorted(seen, key=int) == [str(number) for number in range(TASKS)]
    wait_for(lambda: not problems(pipeline.snapshot()), 10, "green health")
    wait_for(lambda: client.xlen(RESULTS) <= LIMIT + NODE, 10, "the stream to be trimmed")


def test_a_full_stream_holds_what_celery_brings_but_no_shutdown(client, start):
    client.xgroup_create(RESULTS, "shop", id="0", mkstream=True)
    pipeline = start()
    send(client)
    wait_for(lambda: pipeline.writer.results_full, 20, "the stream to be full")
    wait_for(lambda: at_rest(pipeline), 20, "what is on its way to be answered")
    future: Future[Any] = Future()
    pipeline.submit({"task_id": "a", "text": "x"}, Origin("celery", "a"), OnOutcome(future.set_result))
    assert pipeline.stage.waiting()
    assert not future.done()
    pipeline.stop_reading()
    assert pipeline.drain(10)
    assert future.done()
    assert client.xlen(RESULTS) + client.xlen("embedding_tasks") == TASKS + 1


@pytest.mark.parametrize(("overflow", "group"), [("wait", None), ("trim", None), ("trim", "shop")], ids=str)
def test_otherwise_the_oldest_answers_are_trimmed(client, start, overflow, group):
    if group is not None:
        client.xgroup_create(RESULTS, group, id="0", mkstream=True)
    pipeline = start(overflow=overflow)
    send(client)
    wait_for(lambda: not client.xlen("embedding_tasks"), 30, "every task to be answered")
    wait_for(lambda: client.xlen(RESULTS) <= LIMIT + NODE, 10, "the stream to be trimmed")
    assert client.xlen(RESULTS) >= LIMIT
    assert not pipeline.writer.results_full
