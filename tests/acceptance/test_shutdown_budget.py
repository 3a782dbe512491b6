"""A loaded worker ends within its budget; what it could not finish is given back, and answered once by the next."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.acceptance.conftest import NULL_MODELS, TEST_TASKS
from tests.clients import PREPARE_TEXT, Client
from tests.servers import Server, available_kinds
from tests.workers import Worker, wait_for

ENTRIES, MESSAGES, BATCH = 3_000, 300, 16
SLOW = NULL_MODELS["null-text"] | {"options": {"item_s": 0.01}, "max_batch": BATCH}
STOPS = {
    "SIGTERM": [signal.SIGTERM],
    "SIGTERM twice": [signal.SIGTERM, signal.SIGTERM],
    "SIGQUIT": [signal.SIGQUIT],
}


@pytest.fixture(scope="module", params=available_kinds())
def url(request, tmp_path_factory):
    with Server(request.param, tmp_path_factory.mktemp("server")) as server:
        yield server.url


@pytest.fixture
def client(url):
    client = Client(url)
    client.redis.flushall()
    yield client
    client.close()


def worker(url, directory, item_s, **config):
    slow = SLOW | {"options": {"item_s": item_s}}
    models = NULL_MODELS | {"null-text": slow}
    return Worker(url, directory, {"models": models} | config, env=TEST_TASKS, args=("-c", "2"))


@pytest.mark.parametrize("how", STOPS)
def test_the_rest_goes_to_the_next_worker_at_once(how, url, client, tmp_path):
    messages = [f"message-{number}" for number in range(MESSAGES)]
    entries = [f"entry-{number}" for number in range(ENTRIES)]
    with worker(url, tmp_path / "first", 0.01, worker_id="first", shutdown_s=1.5) as first:
        first.wait_ready()
        with client.redis.pipeline() as pipe:
            for task_id in entries:
                pipe.xadd("embedding_tasks", {"task_id": task_id, "text": task_id})
            pipe.execute()
        client.send_all((PREPARE_TEXT, {"task_id": each, "text": each}) for each in messages)
        wait_for(lambda: client.redis.hlen("unacked") > BATCH, 30, "messages in hand")
        wait_for(lambda: client.redis.xlen("embedding_results") > 50, 30, "some answers")
        for number in STOPS[how]:
            first.send_signal(number)
            if number == signal.SIGTERM:
                first.wait_for_log("Warm shutdown")
        assert first.wait(60) == 0
        assert "Traceback" not in first.log
    answered = client.redis.xlen("embedding_results")
    assert answered < ENTRIES, "it was not finished"
    assert client.redis.hlen("unacked") == 0
    pending = client.redis.xpending_range("embedding_tasks", "embedding_workers", "-", "+", ENTRIES)
    assert len(pending) > BATCH, "it held more than the next batch"
    assert {row["time_since_delivered"] >= 60_000 for row in pending} == {True}, "others may have them at once"
    assert {row["times_delivered"] for row in pending} <= {0, 1}, "none is nearer to the dead letter than its tries"
    with worker(url, tmp_path / "second", 0.0, worker_id="second") as second:
        second.wait_ready()
        client.wait_for_entries(ENTRIES + MESSAGES, timeout=50)
        wait_for(lambda: client.redis.hlen("unacked") == 0, 30, "everything to be acknowledged")
        assert client.redis.xpending("embedding_tasks", "embedding_workers")["pending"] == 0
        assert second.stop() == 0
    answers = client.entries()
    assert Counter(entry["task_id"] for entry in answers) == Counter(messages + entries)
    assert {entry["status"] for entry in answers} == {"ok"}


@pytest.mark.parametrize("lock", ["events", "threads"])
def test_a_signal_that_comes_while_a_lock_is_held_ends_the_worker(lock, redis_url, tmp_path):
    client = Client(redis_url)
    ids = [f"message-{number}" for number in range(MESSAGES)]
    env = TEST_TASKS | {"QUIT_UNDER_LOCK": lock}
    config = {"models": NULL_MODELS | {"null-text": SLOW}, "shutdown_s": 1.5}
    with Worker(redis_url, tmp_path, config, env=env, args=("-I", "tests.quit_under_lock", "-c", "2")) as worker:
        worker.wait_ready()
        client.send_all((PREPARE_TEXT, {"task_id": each, "text": each}) for each in ids)
        for number in range(20):
            client.send("tests.tasks.add", number, 1)
        worker.wait_for_log("SIGQUIT comes")
        assert worker.wait(30) == 0
        assert "Traceback" not in worker.log
    assert client.redis.hlen("unacked") == 0
    answered = {entry["task_id"] for entry in client.entries()}
    assert client.waiting()
    assert client.waiting() | answered == set(ids)
