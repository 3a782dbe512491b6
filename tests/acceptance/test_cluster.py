"""A worker whose streams are on a cluster and whose broker is a plain server, through the loss of a master."""

from __future__ import annotations

from collections import Counter

import pytest

from legit_embedding.redis_io.address import RedisAddress
from tests.acceptance.conftest import SLOW_TEXTS
from tests.clients import PREPARE_TEXT, Client
from tests.unit.cli.invoking import Cli
from tests.workers import Worker, wait_for

TASKS, RESULTS, DEAD = "embedding_tasks:{shop}", "embedding_results:{shop}", "embedding_tasks:{shop}:dead"
STREAMED, QUEUED = 1500, 500
CACHED = {"null-text": SLOW_TEXTS["null-text"] | {"cache_s": 60}}


@pytest.fixture(scope="module")
def broker(servers):
    return servers.flushed("valkey")


@pytest.fixture(scope="module")
def cluster(session_cluster):
    session_cluster.flush()
    return session_cluster


@pytest.fixture(scope="module")
def worker(cluster, broker, tmp_path_factory):
    config = {
        "models": CACHED,
        "worker_id": "shopper",
        "telemetry": {"interval_s": 0.5},
        "streams": {"tasks": TASKS, "results": RESULTS, "dead_letter": DEAD, "claim_idle_ms": 5000},
    }
    env = {"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": broker}
    with Worker(cluster.url, tmp_path_factory.mktemp("worker"), config, env=env) as worker:
        yield worker.wait_ready()


@pytest.fixture
def producer(broker):
    producer = Client(broker)
    yield producer
    producer.close()


@pytest.fixture
def client(cluster):
    with cluster.client() as client:
        client.delete(RESULTS)
        yield client


@pytest.fixture
def cli(cluster):
    streams = {"STREAMS__TASKS": TASKS, "STREAMS__RESULTS": RESULTS, "STREAMS__DEAD_LETTER": DEAD}
    return Cli(REDIS_URL=cluster.url, WORKER_ID="shopper", **streams)


def answered(client):
    return [fields[b"task_id"].decode() for _, fields in client.xrange(RESULTS)]


def test_the_commands_serve_a_cluster(cluster, worker, producer, client, cli, tmp_path):
    assert producer.text("one", task_id="one").get(timeout=20)["stream"] == RESULTS
    client.xadd(TASKS, {"task_id": "two", "text": "two"})
    wait_for(lambda: Counter(answered(client)) == Counter(["one", "two"]), 20, "two answers")
    assert cli("health").stdout == "shopper is running\n"
    assert cli.json("streams", "--json")["server"] == RedisAddress.of(cluster.url).public
    assert cli.json("backlog", "--json")["items"] == 0
    wait_for(lambda: cli.json("top", "--once", "--json")["workers"][0]["embedded"] == 2, 20, "what the worker says")

    lines = tmp_path / "texts.jsonl"
    lines.write_text("".join(f'{{"task_id": "{name}", "text": "two"}}\n' for name in ("three", "four")))
    cli("submit", lines)
    wait_for(lambda: client.xlen(RESULTS) == 4, 20, "the answers to what was submitted")
    cached = {line["task_id"]: line.get("cached") for line in cli.lines("tail", "--from", "0")}
    assert cached == {"one": None, "two": None, "three": "1", "four": "1"}

    client.xadd(DEAD, {"task_id": "dead", "text": "dead", "dead_reason": "max_deliveries", "original_stream": TASKS})
    (dead,) = cli.json("dead", "list", "--json")["entries"]
    cli("dead", "requeue", dead["id"])
    wait_for(lambda: "dead" in answered(client), 20, "the answer to what was dead")


def test_every_id_is_answered_once_when_a_master_is_killed(cluster, worker, producer, client, cli):
    streamed = [f"streamed-{number}" for number in range(STREAMED)]
    with client.pipeline(transaction=False) as pipeline:
        for task_id in streamed:
            pipeline.xadd(TASKS, {"task_id": task_id, "text": task_id})
        pipeline.execute()
    before = cluster.master(TASKS)
    with before.client() as node:
        assert node.wait(1, 20_000) == 1
    queued = [f"queued-{number}" for number in range(QUEUED)]
    producer.send_all((PREPARE_TEXT, {"task_id": task_id, "text": task_id}) for task_id in queued)
    ids = Counter([*streamed, *queued])
    wait_for(lambda: client.xlen(RESULTS) > len(ids) // 8, 30, "the first answers")
    before.kill()
    wait_for(lambda: cluster.has_moved(TASKS, before), 30, "another master")
    assert client.xlen(RESULTS) < len(ids), "all was done before the failover"
    wait_for(lambda: client.xlen(RESULTS) >= len(ids), 60, "the answers at the new master")
    wait_for(lambda: client.xlen(TASKS) == producer.redis.zcard("unacked_index") == 0, 30, "nothing left")
    assert Counter(answered(client)) == ids
    assert worker.running
    wait_for(lambda: cli("health", code=None).stdout == "shopper is running\n", 30, "a worker that is well again")
    assert producer.text("later", task_id="later").get(timeout=20)["status"] == "ok"
    assert worker.stop() == 0
    assert "Traceback" not in worker.log
    assert "of-the-cluster" not in worker.log, "a password is in the log"
