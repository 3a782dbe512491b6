"""Nothing is lost: killed workers, and a Redis that goes away."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import NULL_MODELS, TEST_TASKS
from tests.clients import PREPARE_TEXT, Client
from tests.workers import Worker, wait_for

SLOW = {"models": {"slow": NULL_MODELS["null-text"] | {"options": {"batch_s": 0.1}, "max_batch": 16}}}
SLOWER = {"models": {"slow": SLOW["models"]["slow"] | {"options": {"batch_s": 0.3}}}}
VISIBILITY_S = 3


@pytest.fixture
def visibility(tmp_path_factory):
    """A profile whose unacknowledged messages come back soon, as a restarted deployment's would after an hour."""
    directory = tmp_path_factory.mktemp("profile")
    # kombu looks for them every 100 s by default.
    options = {"visibility_timeout": VISIBILITY_S, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    (directory / "soon.py").write_text(f"from tests.profile import *\nbroker_transport_options = {options}\n")
    return {"CELERY_CONFIG_MODULE": "soon", "PYTHONPATH": str(directory)}


def send_texts(client, count):
    ids = [f"t{i}" for i in range(count)]
    client.send_all((PREPARE_TEXT, {"task_id": task_id, "text": task_id}) for task_id in ids)
    return ids


def test_kill_dash_nine_in_the_middle(make_worker, client, visibility):
    worker = make_worker(SLOW, env=visibility)
    worker.start()
    worker.wait_ready()
    ids = send_texts(client, 1000)
    client.wait_for_entries(200)
    worker.kill()
    assert client.redis.xlen("embedding_results") < 1000, "the kill came too late to show anything"
    worker.start()
    answers = client.answers(ids, timeout=90)
    assert {answers[each]["status"] for each in ids} == {"ok"}
    counts = [entry["task_id"] for entry in client.entries()]
    assert len(counts) == len(set(counts)) == 1000, "a redelivery does not write a second result"


def test_a_stuck_device_ends_the_process_if_so_set(make_worker, client, visibility):
    model = {"kind": "text", "backend": "tests.faulty_model:FaultyModel", "options": {"stall_s": 600}}
    worker = make_worker({"models": {"stuck": model}, "engine": {"stall_exit_s": 3}}, env=visibility)
    worker.start()
    worker.wait_ready()
    assert client.text("well").get(timeout=20)["status"] == "ok"
    client.send(PREPARE_TEXT, {"task_id": "stuck", "text": "<stall>"}, ignore_result=True)
    assert worker.wait(60) == 1
    assert "engine.stall_exit_s" in worker.log
    with make_worker({"models": {"stuck": model | {"options": {"stall": ""}}}}, env=visibility):
        assert client.answers(["stuck"])["stuck"]["status"] == "ok", "and nothing is lost"


def test_a_device_that_breaks_for_good_ends_the_process_and_its_messages_are_back(make_worker, client):
    options = {"batch_s": 0.05}
    model = {"kind": "text", "backend": "tests.faulty_model:FaultyModel", "max_batch": 8, "options": options}
    worker = make_worker({"models": {"fragile": model}}, args=("-I", "tests.fragile_device"))
    worker.start()
    worker.wait_ready()
    texts = {f"t{i}": f"text {i}" for i in range(50)} | {"culprit": "<sticky>"} | {f"u{i}": "late" for i in range(200)}
    client.send_all((PREPARE_TEXT, {"task_id": task_id, "text": text}) for task_id, text in texts.items())
    assert worker.wait(60) == 1, "not by a signal: nothing that was in flight has been freed"
    answered = {entry["task_id"] for entry in client.entries()}
    assert "culprit" not in answered
    assert client.redis.hlen("unacked") == 0
    waiting = client.redis.llen("embedding")
    assert waiting + len(answered) == len(texts), "each is answered, or back in the queue before the process has ended"
    assert waiting > 50, "more than the culprit's batch and the one that was being made beside it"
    assert "device is broken for good" in worker.log


def test_redis_away_at_the_start(own_server, tmp_path):
    own_server.stop()
    with Worker(own_server.url, tmp_path / "w", {"models": NULL_MODELS}, env=TEST_TASKS) as worker:
        worker.wait_for_log("Cannot connect to redis://", timeout=60)
        own_server.start()
        worker.wait_ready()
        assert Client(own_server.url).text("x").get(timeout=20)["status"] == "ok"


def test_redis_away_in_the_middle(own_server, tmp_path):
    client = Client(own_server.url)
    with Worker(own_server.url, tmp_path / "w", SLOWER, env=TEST_TASKS) as worker:
        worker.wait_ready()
        ids = send_texts(client, 240)
        client.wait_for_entries(16)
        # What Redis took off the list for a reply that it never sent is gone (docs/celery.md): not now.
        wait_for(lambda: client.redis.llen("embedding") == 0, 30, "the worker to take everything")
        assert client.redis.xlen("embedding_results") < 200, "the kill comes too late to show anything"
        own_server.kill()
        worker.wait_for_log("Connection refused", timeout=30)
        own_server.start()
        answers = client.answers(ids, timeout=90)
        assert {answers[each]["status"] for each in ids} == {"ok"}
        counts = [entry["task_id"] for entry in client.entries()]
        assert len(counts) == len(set(counts)) == 240
        wait_for(lambda: client.redis.hlen("unacked") == 0, 30, "everything to be acknowledged")
        assert worker.running
