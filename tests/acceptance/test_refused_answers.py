"""Answers that the server takes nowhere: the worker stops when it is told to, and nothing is lost."""

from __future__ import annotations

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
