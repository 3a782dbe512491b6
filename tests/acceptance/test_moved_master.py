"""One address that leads to another master from one moment to the next, as a DNS name or a proxy does at a failover."""

from __future__ import annotations

from contextlib import ExitStack

from tests.acceptance.conftest import NULL_MODELS, TEST_TASKS
from tests.clients import Client
from tests.proxy import Proxy
from tests.servers import Server
from tests.unit.cli.invoking import Cli
from tests.workers import Worker, wait_for


def embed(url, prefix):
    client = Client(url)
    try:
        ids = [f"{prefix}-{number}" for number in range(40)]
        stored = [client.text("x", task_id=task_id) for task_id in ids[::2]]
        stored += [client.send("tests.tasks.add", 1, 1) for _ in range(4)]
        for task_id in ids[1::2]:
            client.redis.xadd("embedding_tasks", {"task_id": task_id, "text": "x"})
        answers = client.answers(ids)
        assert {answers[each]["status"] for each in ids} == {"ok"}
        for each in stored:
            each.get(timeout=30)
        wait_for(lambda: client.redis.zcard("unacked_index") == 0, 30, "all of it settled")
    finally:
        client.close()


def test_connections_to_what_has_become_a_replica_are_left(tmp_path):
    with ExitStack() as stack:
        old, new = (stack.enter_context(Server("valkey", tmp_path / name)) for name in ("old", "new"))
        address = stack.enter_context(Proxy(old.url))
        config = {"models": NULL_MODELS, "worker_id": "shopper", "telemetry": {"interval_s": 0.5}}
        worker = stack.enter_context(Worker(address.url, tmp_path / "worker", config, env=TEST_TASKS)).wait_ready()
        embed(old.url, "before")
        with new.client() as client:
            client.replicaof("127.0.0.1", old.port)
            wait_for(lambda: client.info("replication")["master_link_status"] == "up", 20, "the replica's data")
            client.replicaof("NO", "ONE")
        address._port = new.port
        with old.client() as client:
            client.replicaof("127.0.0.1", new.port)
        embed(new.url, "after")
        cli = Cli(REDIS_URL=address.url, WORKER_ID="shopper")
        wait_for(lambda: cli.json("streams", "--json")["tasks"]["pending"] == 0, 20, "nothing pending")
        with new.client() as client:  # what the old master knew of the worker does not count
            client.delete("embedding:worker:shopper")
            wait_for(lambda: client.hget("embedding:worker:shopper", "state") == "running", 20, "a heartbeat")
        assert cli("health").stdout == "shopper is running\n"
        assert worker.running
        assert "Traceback" not in worker.log
