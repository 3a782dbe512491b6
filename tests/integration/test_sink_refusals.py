"""Answers that are refused: each costs itself only, and neither its neighbours nor a shutdown wait for it."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from legit_embedding.errors import TaskError
from legit_embedding.sinks import committer as committing
from legit_embedding.sinks.routing import Router
from legit_embedding.wire.result import Origin, Result
from legit_embedding.wire.task import Address
from tests.integration.test_sink import (
    CONFIG,
    GOOD,
    Settled,
    client,
    deliver,
    entries,
    make_writer,
    pending,
    put_all,
    result,
    settled,
    writer,
)
from tests.told import put
from tests.waiting import wait_for

if TYPE_CHECKING:
    import redis

    from legit_embedding.sinks.writer import StreamWriter

__all__ = ["client", "settled", "writer"]

TASK = {"task_id": "1", "text": "hello"}


class Left:
    """Collects the reasons why answers are written nowhere."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def __call__(self, reason: str) -> None:
        self.reasons.append(reason)

    def wait(self, count: int) -> list[str]:
        wait_for(lambda: len(self.reasons) >= count, 20, f"{count} answers to be left")
        return self.reasons


def dead(client: redis.Redis) -> list[dict[str, str]]:
    return entries(client, CONFIG.dead_letter)


def test_a_default_stream_that_takes_nothing_sends_tasks_to_the_dead_letter(
    client: redis.Redis, writer: StreamWriter, settled: Settled
) -> None:
    client.set(CONFIG.results, "not a stream")
    (entry_id,) = deliver(client, 1)
    put(writer, result("1", Origin("stream", entry_id)), settled)
    put(writer, result("2", Origin("celery", "c-2")), settled, task=lambda: TASK)
    put(writer, result("3", reply_to="embedding_results:other"), settled)
    written = {each.result.address.task_id: each for each in settled.wait(3)}
    assert {task_id: each.stream for task_id, each in written.items()} == {
        "1": CONFIG.dead_letter,
        "2": CONFIG.dead_letter,
        "3": "embedding_results:other",
    }
    assert isinstance(written["1"].result.outcome, TaskError)
    assert written["1"].result.outcome.code == "dead_letter"
    buried = {each["original_id"]: each for each in dead(client)}
    assert {each["dead_reason"] for each in buried.values()} == {"answer_refused"}
    assert all("WRONGTYPE" in each["dead_detail"] for each in buried.values())
    assert (buried[entry_id]["text"], buried[entry_id]["original_stream"]) == ("hello 0", CONFIG.tasks)
    assert json.loads(buried["c-2"]["payload"]) == TASK
    assert (pending(client), client.xlen(CONFIG.tasks)) == (0, 0)
    assert "WRONGTYPE" in writer.health().error
    client.delete(CONFIG.results)
    put(writer, result("4"), settled)
    settled.wait(4)
    wait_for(lambda: writer.health().ok, 10, "green health")


def test_without_a_dead_letter_the_task_is_left_to_its_source(
    client: redis.Redis, writer: StreamWriter, settled: Settled
) -> None:
    left = Left()
    for key in (CONFIG.results, CONFIG.dead_letter):
        client.set(key, "not a stream")
    (entry_id,) = deliver(client, 1)
    put(writer, result("1", Origin("stream", entry_id)), settled, left)
    put(writer, result("2", reply_to="embedding_results:other"), settled, left)
    assert "dead letter: WRONGTYPE" in left.wait(1)[0]
    settled.wait(1)
    assert writer.drain(10), "nothing is held"
    assert (pending(client), len(settled.written), len(left.reasons)) == (1, 1, 1)


def test_streams_that_the_user_may_not_write_to(any_redis_url: str, client: redis.Redis, settled: Settled) -> None:
    (entry_id,) = deliver(client, 1)
    client.acl_setuser(
        "worker", enabled=True, passwords=["+secret"], keys=["embedding_tasks*", "embedding_results:mine"],
        categories=["+@all"],
    )  # fmt: skip
    url = any_redis_url.replace("redis://", "redis://worker:secret@")
    try:
        with closing(make_writer(url)) as writer:
            put(writer, result("1", Origin("stream", entry_id), reply_to="embedding_results:theirs"), settled)
            put(writer, result("2", reply_to="embedding_results:mine"), settled)
            settled.wait(2)
            assert writer.drain(10)
    finally:
        client.acl_deluser("worker")
    assert "NOPERM" in dead(client)[0]["dead_detail"]
    assert entries(client, "embedding_results:mine")[0]["task_id"] == "2"


def test_what_is_too_large_for_the_server_is_answered(
    client: redis.Redis, writer: StreamWriter, settled: Settled
) -> None:
    limit = client.config_get("proto-max-bulk-len")["proto-max-bulk-len"]
    client.config_set("proto-max-bulk-len", 1024 * 1024)
    try:
        ids = deliver(client, 5)
        large = [result(each, Origin("stream", each)) for each in ids]
        large[2] = result(ids[2], Origin("stream", ids[2]), metadata=json.dumps({"a": "x" * 3_000_000}))
        put_all(writer, large, settled)
        settled.wait(5, timeout=60)
    finally:
        client.config_set("proto-max-bulk-len", limit)
    answers = {entry["task_id"]: entry for entry in entries(client)}
    assert answers[ids[2]]["error"] == "too_large"
    assert {answers[each]["status"] for each in ids if each != ids[2]} == {"ok"}
    assert len(entries(client)) == 5


ODD: Any = 42


def test_what_cannot_be_packed_is_answered_or_left(client: redis.Redis, writer: StreamWriter, settled: Settled) -> None:
    left = Left()
    put(writer, Result(Address(ODD), Origin("local", ""), GOOD), settled, left)
    put(writer, Result(Address("2"), Origin("celery", ODD), GOOD), settled, left)
    put(writer, Result(Address("3"), Origin("celery", "c-3"), GOOD), settled, left)
    settled.wait(2)
    left.wait(1)
    assert writer.drain(10)
    answers = {entry["task_id"]: entry for entry in entries(client)}
    assert (answers["42"]["error"], answers["3"]["status"]) == ("model_failed", "ok")
    assert set(answers) == {"42", "3"}


@pytest.mark.parametrize("fault", ["route", "pack", "reply"])
def test_what_nobody_foresaw_is_answered_or_left(
    client: redis.Redis, writer: StreamWriter, settled: Settled, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def unforeseen(*args: object) -> None:
        raise KeyError("nobody foresaw this")

    left = Left()
    ids = deliver(client, 3)
    with monkeypatch.context() as patch:
        owner, name = {"route": (Router, "route"), "pack": (committing.Batch, "_pack"), "reply": (committing, "parse")}[
            fault
        ]
        patch.setattr(owner, name, unforeseen)
        for each in ids:
            put(writer, result(each, Origin("stream", each)), settled, left)
        wait_for(lambda: len(left.reasons) + len(settled.written) == 3, 20, "three ends")
        assert writer.drain(10)
    assert len(dead(client)) == (3 if fault == "pack" else 0)
    assert len(left.reasons) == (0 if fault == "pack" else 3)
    put(writer, result("after"), settled)
    wait_for(lambda: "after" in [each["task_id"] for each in entries(client)], 10, "the next answer")
