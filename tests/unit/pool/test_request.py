from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu.message import Message

from legit_embedding.broker.settlement import servers_of
from legit_embedding.pool import request
from legit_embedding.pool.request import EmbeddingRequest
from legit_embedding.task import EmbeddingTask
from legit_embedding.wire.result import Result, Written
from legit_embedding.wire.task import Address
from tests.told import nothing

if TYPE_CHECKING:
    import pytest


def test_an_expired_message_knows_where_it_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("one", set_as_current=False)
    task = app.task(base=EmbeddingTask, name="embed", shared=False)(nothing)
    acknowledged: list[frozenset[str]] = []
    callers: list[tuple[Any, Any, Any]] = []
    pipeline = SimpleNamespace(refuse=lambda _raw, *others: callers.append(others))
    running = SimpleNamespace(is_running=lambda: True, current=lambda: pipeline)
    monkeypatch.setattr(request, "process", running)
    headers = {"task": task.name, "id": "1", "ignore_result": True, "expires": "2000-01-01T00:00:00"}
    body = json.dumps([[{"text": "x"}], {}, {}])
    message = Message(body, "tag", "application/json", "utf-8", headers=headers)
    expired = EmbeddingRequest(
        message,
        app=app,
        task=task,
        on_ack=lambda *_: acknowledged.append(servers_of(message)),
    )
    assert expired.revoked()
    ((origin, error, caller),) = callers
    assert acknowledged == [], "its answer is not confirmed yet"
    caller.written(Written(Result(Address("1"), origin, error), "embedding_results", "1-1", "the server"))
    assert acknowledged == [{"the server"}]
