from __future__ import annotations

import pytest

from legit_embedding.config import StreamConfig
from legit_embedding.wire import reserved

ANY = StreamConfig(
    reply_to_allow=("*",),
    results="embedding:results",
    routes={"shop": "embedding:shop"},
    tasks="work",
    dead_letter="dead",
)


@pytest.mark.parametrize(
    "key",
    [
        *("unacked", "unacked_mutex", "_kombu.binding.celery", "celery-task-meta-x", "celery-taskset-meta-x"),
        *("embedding:worker:a", "embedding:workers", "embedding:claim:a", "embedding:stats:prep:a", "embedding:new"),
        *("work", "dead", "a\nb"),
    ],
)
def test_keys_in_use_are_no_result_streams_whatever_the_allow_list_says(key: str) -> None:
    assert not ANY.allows(key)


@pytest.mark.parametrize("key", ["embedding:results", "embedding:shop", "answers", "embedding_results"])
def test_others_are(key: str) -> None:
    assert ANY.allows(key)


@pytest.mark.parametrize("key", ["unacked", "embedding:workers", "work"])
def test_the_settings_may_not_name_them_either(key: str) -> None:
    with pytest.raises(ValueError, match="a key that the worker or Celery uses"):
        StreamConfig(reply_to_allow=("*",), results=key, tasks="work")


def test_a_workers_queues_are_reserved_at_every_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserved, "_queues", set())
    reserved.reserve_queues(["jobs"])
    for key in ("jobs", "jobs\x06\x163", "jobs:9"):
        assert reserved.is_reserved(key)
    for key in ("jobs_results", "jobs_results:3", "jobs:results", "jobs3"):
        assert not reserved.is_reserved(key)
