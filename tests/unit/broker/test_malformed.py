"""The guard between the broker and Celery's consumer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from celery.worker import state
from celery.worker.request import Request
from kombu import Connection, Consumer, Queue

from legit_embedding.broker.malformed import MalformedMessages
from legit_embedding.pool import TaskPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kombu.message import Message

TASK = "tests.any"
QUEUE = Queue("embedding", routing_key="embedding")


class Kept(list[str]):
    """The dead letter."""

    def keep(self, queue: str, text: str, why: str, tag: str) -> None:
        self.append(why)


def nothing() -> None:
    pass


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection("memory://") as connection:
        with connection.channel() as channel:
            QUEUE(channel).declare()
            QUEUE(channel).purge()
        yield connection


def test_a_message_that_meets_a_stopped_pool_goes_back_to_its_queue(connection: Connection) -> None:
    """What a cold stop leads to, when its signal interrupts the loop with a message in its hands."""
    app = Celery("its own", set_as_current=False)
    app.task(name=TASK, shared=False)(nothing)
    pool = TaskPool(1, app=app)
    pool.on_stop()
    kept, invalid = Kept(), []

    def handle(message: Message) -> None:
        request = Request(message, app=app, task=app.tasks[TASK], hostname="h")
        state.task_reserved(request)
        request.execute_using_pool(pool)

    consumer = SimpleNamespace(
        app=app,
        connection_errors=connection.connection_errors,
        channel_errors=connection.channel_errors,
        create_task_handler=lambda: handle,
        on_unknown_message=None,
        on_invalid_task=lambda body, message, why: invalid.append(why),
    )
    MalformedMessages(consumer, kept)
    with connection.channel() as channel:
        connection.Producer(channel).publish(
            [[{"task_id": "t1", "text": "a"}], {}, {}],
            routing_key="embedding",
            headers={"task": TASK, "id": "t1"},
            correlation_id="t1",
        )
        tag = Consumer(channel, [QUEUE], on_message=consumer.create_task_handler(), accept=["json"])
        tag.consume()
        connection.drain_events(timeout=5)
        tag.cancel()
        assert QUEUE(channel).get().headers["id"] == "t1"
    assert kept == invalid == []
    assert not any(request.id == "t1" for request in state.reserved_requests)
