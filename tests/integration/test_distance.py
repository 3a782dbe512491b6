"""A pipeline far from its server: what is on its way there takes no task's place."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING

import redis

from legit_embedding.config import Settings
from legit_embedding.pipeline.held_tasks import HeldBySource
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.pool.stream_step import stream_source
from tests.proxy import Proxy
from tests.waiting import wait_for

if TYPE_CHECKING:
    import pytest

NULL = {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}
MOST = 64
TASKS = 600


def test_answers_under_way_leave_room_for_tasks(redis_url: str) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis.from_url(redis_url, decode_responses=True))
        proxy = stack.enter_context(Proxy(redis_url, delay_s=0.1))
        with client.pipeline(transaction=False) as batch:
            for number in range(TASKS):
                batch.xadd("embedding_tasks", {"text": f"text {number}"})
            batch.execute()
        settings = Settings(redis_url=proxy.url, device="cpu", models={"null": NULL}, engine={"max_in_flight": MOST})
        pipeline = Pipeline(settings, "celery@pod-1", 1)
        stack.callback(pipeline.stop)
        pipeline.start()
        pipeline.add_source(stream_source(pipeline))
        wait_for(lambda: pipeline.in_flight > MOST, 30, "answers under way besides the tasks")
        wait_for(lambda: client.xlen("embedding_results") == TASKS, 30, "every answer")
        wait_for(lambda: pipeline.in_flight == 0, 30, "every confirmation")
        assert pipeline.writer.unconfirmed == 0


def test_unconfirmed_answers_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(device="cpu", models={"null": NULL}, engine={"max_in_flight": MOST})
    pipeline = Pipeline(settings, "celery@pod-1", 1)
    monkeypatch.setattr(Pipeline, "in_flight", 100)
    monkeypatch.setattr(pipeline, "_holds", HeldBySource(["null"], settings.engine, lambda model: MOST))
    for unconfirmed, room in ((0, MOST - 100), (90, MOST - 10), (100, MOST)):
        monkeypatch.setattr(pipeline, "writer", SimpleNamespace(unconfirmed=unconfirmed))
        assert pipeline._room_to_read(0) == room
