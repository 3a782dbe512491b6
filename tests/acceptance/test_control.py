"""Revoking, expiring and time limits, on embedding tasks and on ordinary ones."""

from __future__ import annotations

import time

import pytest
from celery.exceptions import TaskRevokedError, TimeLimitExceeded

from tests.acceptance.conftest import NULL_MODELS
from tests.clients import PREPARE_TEXT
from tests.workers import wait_for

BUSY_S = 1.0


@pytest.fixture(scope="module")
def shared_models():
    """The device is busy for `BUSY_S` with each item."""
    return {"slow": NULL_MODELS["null-text"] | {"options": {"batch_s": BUSY_S}, "max_batch": 1}}


@pytest.fixture(scope="module")
def shared_args():
    return ("-c", "1")


@pytest.fixture
def client(shared_client):
    return shared_client


def is_active(client, celery_id):
    active = client.app.control.inspect(timeout=5, limit=1).active() or {}
    return any(each["id"] == celery_id for tasks in active.values() for each in tasks)


def keep_device_busy(client):
    """Return once a first task is on the device and a second one waits for it."""
    first = client.text("first", task_id="first")
    wait_for(lambda: is_active(client, first.id), 20, "the first task to be active")
    waiting = client.text("waiting", task_id="waiting")
    wait_for(lambda: is_active(client, waiting.id), 20, "the second task to be active")
    return first, waiting


@pytest.mark.parametrize("terminate", [False, True])
def test_a_task_in_the_accumulator_is_removed_and_answered(client, terminate):
    others = [client.text("x", task_id=f"other-{number}") for number in range(5)]
    last = client.text("last", task_id="last")
    wait_for(lambda: is_active(client, last.id), 20, "the last task to be active")
    client.app.control.revoke(last.id, terminate=terminate)
    answer = client.answers(["last"], timeout=10)["last"]
    assert (answer["status"], answer["error"]) == ("error", "revoked")
    answered = [entry["task_id"] for entry in client.entries()]
    assert len(answered) < len(others), "removed at once, and not when its turn came"
    with pytest.raises(TaskRevokedError):
        last.get(timeout=10)
    assert last.state == "REVOKED"
    assert {other.get(timeout=30)["status"] for other in others} == {"ok"}
    wait_for(lambda: client.redis.hlen("unacked") == 0, 10, "everything to be acknowledged")
    assert not is_active(client, last.id)


def test_a_task_on_the_device_has_its_vector_dropped(client):
    first = client.text("first", task_id="first")
    wait_for(lambda: is_active(client, first.id), 20, "the task to be active")
    client.app.control.revoke(first.id)
    answer = client.answers(["first"])["first"]
    assert (answer["error"], "embedding" in answer) == ("revoked", False)
    with pytest.raises(TaskRevokedError):
        first.get(timeout=10)


def test_a_task_revoked_before_it_arrives_is_answered(client):
    client.app.control.revoke("known-before", reply=True, timeout=10, limit=1)
    client.send(PREPARE_TEXT, {"task_id": "never", "text": "x"}, task_id="known-before")
    answer = client.answers(["never"])["never"]
    assert (answer["error"], answer["source"]) == ("revoked", "known-before")
    wait_for(lambda: client.redis.hlen("unacked") == 0, 10, "it to be acknowledged")


def test_a_task_that_expires_while_it_waits_is_answered(client):
    others = [client.text("x", task_id=f"other-{number}") for number in range(5)]
    late = client.send(PREPARE_TEXT, {"task_id": "late", "text": "x"}, expires=0.5)
    answer = client.answers(["late"])["late"]
    assert answer["error"] == "expired"
    with pytest.raises(TaskRevokedError):
        late.get(timeout=10)
    assert {other.get(timeout=30)["status"] for other in others} == {"ok"}


def test_soft_and_hard_limits_end_a_waiting_task(client):
    first, _ = keep_device_busy(client)
    soft = client.send(PREPARE_TEXT, {"task_id": "soft", "text": "x"}, soft_time_limit=0.3)
    hard = client.send(PREPARE_TEXT, {"task_id": "hard", "text": "x"}, time_limit=0.3)
    answers = client.answers(["soft", "hard"], timeout=10)
    assert {answers[name]["error"] for name in ("soft", "hard")} == {"expired"}
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        soft.get(timeout=10)
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=10)
    assert first.get(timeout=20)["status"] == "ok"
    wait_for(lambda: client.redis.hlen("unacked") <= 1, 10, "both to be acknowledged")


def test_limits_of_ordinary_tasks(client):
    soft = client.send("tests.tasks.busy", 30, soft_time_limit=0.3)
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        soft.get(timeout=10)
    started = time.monotonic()
    hard = client.send("tests.tasks.sleep", 20, time_limit=0.3)
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=10)
    assert time.monotonic() - started < 15, "reported on although its thread is stuck"
    results = [client.send("tests.tasks.add", number, 1) for number in range(8)]
    assert [result.get(timeout=10) for result in results] == list(range(1, 9)), "the stuck thread was replaced"


def test_revoking_a_running_ordinary_task_is_refused_in_words(client):
    running = client.send("tests.tasks.busy", 3)
    wait_for(lambda: is_active(client, running.id), 20, "the task to be active")
    [reply] = client.app.control.revoke(running.id, terminate=True, reply=True, timeout=10, limit=1)
    assert "cannot be killed" in str(reply)
    assert running.get(timeout=20) == "done"


def test_a_reserved_ordinary_task_is_revoked(client):
    running = client.send("tests.tasks.busy", 2)
    wait_for(lambda: is_active(client, running.id), 20, "the task to be active")
    reserved = client.send("tests.tasks.add", 1, 1)
    # The running one is acknowledged already, as is Celery's way with ordinary tasks.
    wait_for(lambda: client.redis.llen("embedding") == 0 and client.redis.hlen("unacked"), 10, "it to arrive")
    client.app.control.revoke(reserved.id, terminate=True, reply=True, timeout=10, limit=1)
    with pytest.raises(TaskRevokedError):
        reserved.get(timeout=20)
    assert running.get(timeout=20) == "done"
    wait_for(lambda: client.redis.hlen("unacked") == 0, 10, "both to be acknowledged")
