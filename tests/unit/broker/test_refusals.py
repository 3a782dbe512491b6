from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu.exceptions import ContentDisallowed
from kombu.message import Message

from legit_embedding.broker import refusals
from legit_embedding.broker.refusals import Refusals
from legit_embedding.broker.settlement import servers_of
from legit_embedding.task import EmbeddingTask
from legit_embedding.wire.result import Result, Written
from legit_embedding.wire.task import Address
from tests.told import nothing

if TYPE_CHECKING:
    import pytest


def test_a_refused_message_knows_where_it_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[frozenset[str]] = []
    task = Celery("one", set_as_current=False).task(base=EmbeddingTask, name="embed", shared=False)(nothing)
    consumer = SimpleNamespace(
        app=SimpleNamespace(tasks={task.name: task}),
        call_soon_ack=lambda settle, *_: settled.append(servers_of(settle.__self__)),
        connection_errors=(),
        create_task_handler=None,
        on_decode_error=None,
        on_invalid_task=None,
    )

    def refuse(_raw: object, origin: Any, error: Any, caller: Any) -> None:
        assert settled == [], "it is settled once its answer is confirmed"
        caller.written(Written(Result(Address("1"), origin, error), "embedding_results", "1-1", "the server"))

    pipeline = SimpleNamespace(is_running=lambda: True, current=lambda: SimpleNamespace(refuse=refuse))
    monkeypatch.setattr(refusals, "process", pipeline)
    Refusals(consumer)
    headers = {"task": task.name, "id": "1", "ignore_result": True}
    message = Message(b"?", "tag", "application/x-python-serialize", headers=headers)
    consumer.on_decode_error(message, ContentDisallowed("pickle"))  # type: ignore[misc]
    assert settled == [{"the server"}]
