"""A pipeline far from its server: what is on its way there takes no task's place."""

from __future__ import annotations

from contextlib import ExitStack

import redis

from legit_embedding.config import Settings
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.pool.stream_step import stream_source
from tests.proxy import Proxy
from tests.waiting import wait_for

NULL = {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}
MOST = 64
TASKS = 2000


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
        # As many again are what the way from the server may hold.
        wait_for(lambda: pipeline.in_flight > 2 * MOST, 30, "answers under way besides the tasks")
        wait_for(lambda: client.xlen("embedding_results") == TASKS, 30, "every answer")
        wait_for(lambda: pipeline.in_flight == 0, 30, "every confirmation")
        assert pipeline.writer.unconfirmed == 0
