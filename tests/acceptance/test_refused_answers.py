"""Answers that the server takes nowhere: the worker stops when it is told to, and nothing is lost."""

from __future__ import annotations

import json

from tests.acceptance.conftest import NULL_MODELS
from tests.acceptance.test_hostile_messages import changed, message
from tests.clients import PREPARE_TEXT
from tests.workers import wait_for


def test_an_answer_that_nothing_takes_holds_neither_its_neighbours_nor_a_shutdown(make_worker, client):
    for key in ("embedding_results", "embedding_tasks:dead"):
        client.redis.set(key, "not a stream")
    config = {"streams": {"claim_idle_ms": 60_000}}
    with make_worker(config) as worker:
        worker.wait_ready()
        client.send_all([(PREPARE_TEXT, {"task_id": "celery", "text": "x"})])
        client.redis.xadd("embedding_tasks", {"task_id": "stream", "text": "x"})
        for task_id in ("celery", "stream"):
            worker.wait_for_log(f"the answer to '{task_id}' is written nowhere")
        neighbour = {"task_id": "neighbour", "text": "x", "reply_to": "embedding_results:other"}
        client.send_all([(PREPARE_TEXT, neighbour)])
        assert client.answers(["neighbour"], "embedding_results:other")["neighbour"]["status"] == "ok"
        assert worker.stop(timeout=30) == 0

        client.redis.delete("embedding_results", "embedding_tasks:dead")
        worker.start()
        worker.wait_ready()
        answers = client.answers(["celery", "stream"])
        assert {each["status"] for each in answers.values()} == {"ok"}
        wait_for(lambda: client.redis.hlen("unacked") == client.redis.xlen("embedding_tasks") == 0, 20, "the end")
        assert sorted(each["task_id"] for each in client.entries()) == ["celery", "stream"]


def test_a_server_that_is_full_does_not_hold_a_shutdown(make_worker, client):
    ids = {f"t{number}" for number in range(20)}
    slow = {"slow": NULL_MODELS["null-text"] | {"options": {"batch_s": 2}}}
    with make_worker({"models": slow}) as worker:
        worker.wait_ready()
        sent = client.send_all([(PREPARE_TEXT, {"task_id": each, "text": "x"}) for each in ids])
        client.redis.xadd("embedding_tasks", {"task_id": "stream", "text": "x"})
        wait_for(lambda: client.redis.hlen("unacked") == len(ids), 20, "all of them to be in progress")
        client.redis.config_set("maxmemory", 1)
        try:
            assert worker.stop(timeout=40) == 0
        finally:
            client.redis.config_set("maxmemory", 0)
        answered = {entry["source"] for entry in client.entries()}
        in_broker = client.redis.hlen("unacked") + client.redis.llen("embedding")
        assert in_broker >= len(ids) - len(answered & set(sent)), "nothing is lost"
        worker.start()
        worker.wait_ready()
        assert client.answers(["stream"])["stream"]["status"] == "ok"


def test_a_malformed_message_that_cannot_be_kept_holds_no_neighbour(make_worker, client):
    good = json.dumps(message("good"))
    with make_worker() as worker:
        worker.wait_ready()
        client.redis.set("embedding_tasks:dead", "not a stream")
        client.redis.lpush("embedding", changed(("properties", "delivery_info"), 5), good)
        assert client.answers(["good"])["good"]["status"] == "ok"
        worker.wait_for_log("It could not be kept in the dead letter")
        wait_for(lambda: client.redis.hlen("unacked") == 1, 20, "the other to stay on record")
        assert worker.stop(timeout=20) == 0
