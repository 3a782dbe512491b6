"""The task stream: shared by workers, drained to the end, one answer an entry."""

from __future__ import annotations

import json
import signal

from tests.acceptance.conftest import NULL_MODELS
from tests.workers import wait_for

SLOW = {
    "models": {"slow": NULL_MODELS["null-text"] | {"options": {"batch_s": 0.02}, "max_batch": 16}},
    "engine": {"max_in_flight": 256},
}


def add(client, count, start=0):
    ids = [f"s{number}" for number in range(start, start + count)]
    pipe = client.redis.pipeline(transaction=False)
    for task_id in ids:
        pipe.xadd("embedding_tasks", {"payload": json.dumps({"task_id": task_id, "text": task_id})})
    pipe.execute()
    return ids


def check_once(client, ids):
    answered = [entry["task_id"] for entry in client.entries()]
    assert len(answered) == len(set(answered)), "one answer a task"
    assert set(answered) == set(ids)


def wait_for_empty(client, timeout=60):
    def empty():
        return client.redis.xlen("embedding_tasks") == 0 and client.redis.exists("embedding_tasks")

    wait_for(empty, timeout, "the task stream to be empty")


def test_streams_and_queues_feed_one_worker(null_worker, client):
    ids = add(client, 300)
    queued = [client.text("x", task_id=f"q{number}") for number in range(50)]
    assert {result.get(timeout=30)["status"] for result in queued} == {"ok"}
    answers = client.answers(ids)
    assert {answers[each]["status"] for each in ids} == {"ok"}
    wait_for_empty(client)
    check_once(client, [*ids, *(f"q{number}" for number in range(50))])
    assert len({entry["worker"] for entry in answers.values()}) == 1


def test_the_source_can_be_off(make_worker, client):
    with make_worker({"streams": {"consume": False}}) as worker:
        worker.wait_ready()
        add(client, 3)
        assert client.text("x").get(timeout=30)["status"] == "ok"
        assert client.redis.xlen("embedding_tasks") == 3


def test_a_warm_shutdown_finishes_what_was_read_and_leaves(make_worker, client):
    with make_worker(SLOW) as worker:
        worker.wait_ready()
        ids = add(client, 3000)
        client.wait_for_entries(200)
        assert worker.stop(signal.SIGTERM) == 0
        answered = client.redis.xlen("embedding_results")
        assert answered < 3000, "reading stopped at once"
        assert client.redis.xpending("embedding_tasks", "embedding_workers")["pending"] == 0
        assert client.redis.xinfo_consumers("embedding_tasks", "embedding_workers") == []
        assert client.redis.xlen("embedding_tasks") == 3000 - answered
    with make_worker(SLOW) as worker:
        client.answers(ids)
        wait_for_empty(client)
    check_once(client, ids)
