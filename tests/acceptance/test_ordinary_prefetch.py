"""Ordinary tasks beside embedding tasks: taken as Celery's settings say, and left to others at a warm shutdown."""

from __future__ import annotations

import signal

import pytest

from tests.acceptance.conftest import NULL_MODELS, TEST_TASKS
from tests.clients import PREPARE_TEXT
from tests.workers import wait_for

THREADS = 2
TASKS = 40


@pytest.mark.parametrize(
    ("args", "waiting"),
    [("--prefetch-multiplier=1", THREADS), ("--prefetch-multiplier=4", 4 * THREADS), ("--disable-prefetch", 0)],
)
def test_ordinary_tasks_are_held_as_celery_s_settings_say(make_worker, client, args, waiting):
    with make_worker(args=("-c", str(THREADS), args), env=TEST_TASKS) as worker:
        worker.wait_ready()
        sent = [client.send("tests.tasks.hold", "key", str(number)) for number in range(TASKS)]
        # An embedding task has to wait for its turn in the queue, but for no thread.
        client.send(PREPARE_TEXT, {"task_id": "elsewhere", "text": "x"}, queue="embedding")
        wait_for(lambda: client.redis.llen("key:begun") == THREADS, 30, "as many begun as there are threads")
        wait_for(lambda: client.redis.hlen("unacked") == waiting, 30, f"{waiting} that wait for a thread")
        assert client.redis.llen("embedding") == TASKS + 1 - THREADS - waiting
        worker.send_signal(signal.SIGTERM)
        if waiting:
            worker.wait_for_log(f"{waiting} tasks that have not begun are left to other workers")
        client.redis.set("key", "go on")
        assert worker.wait(20) == 0
    begun = {name.decode() for name in client.redis.lrange("key:begun", 0, -1)}
    assert len(begun) <= 2 * THREADS, "a warm shutdown runs what has begun, and no more"
    assert client.redis.llen("embedding") == TASKS + 1 - len(begun)
    assert client.redis.hlen("unacked") == 0
    assert len(sent) == TASKS


def test_embedding_tasks_are_held_by_the_batch(make_worker, client):
    slow = {"slow": NULL_MODELS["null-text"] | {"options": {"batch_s": 3}}}
    with make_worker({"models": slow}, args=("-c", "1", "--prefetch-multiplier=1")) as worker:
        worker.wait_ready()
        client.send_all([(PREPARE_TEXT, {"task_id": str(number), "text": "x"}) for number in range(200)])
        wait_for(lambda: client.redis.hlen("unacked") > 100, 20, "a hundred tasks in progress")


def test_a_separator_that_is_in_a_queue_s_name_too(make_worker, client, tmp_path):
    profile = "tests.colon_profile"
    with make_worker(args=("-Q", "embedding:shop"), env={"CELERY_CONFIG_MODULE": profile}) as worker:
        worker.wait_ready()
        client.app.conf.broker_transport_options = {"sep": ":"}
        for priority in (0, 3, 9):
            client.send(
                PREPARE_TEXT, {"task_id": str(priority), "text": "x"}, queue="embedding:shop", priority=priority
            )
        answers = client.answers(["0", "3", "9"])
        assert {each["status"] for each in answers.values()} == {"ok"}
        wait_for(lambda: client.redis.hlen("unacked") == 0, 20, "everything to be settled")
