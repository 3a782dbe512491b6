"""One address that leads to another master from one moment to the next, as a DNS name or a proxy does at a failover."""

from __future__ import annotations

from contextlib import ExitStack

from tests.acceptance.conftest import NULL_MODELS, SLOW_TEXTS, TEST_TASKS
from tests.clients import PREPARE_TEXT, Client
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


def replicate(master, replica):
    with replica.client() as client:
        client.replicaof("127.0.0.1", master.port)
        wait_for(lambda: client.info("replication")["master_link_status"] == "up", 20, "the replica's data")


def test_connections_to_what_has_become_a_replica_are_left(tmp_path):
    with ExitStack() as stack:
        old, new = (stack.enter_context(Server("valkey", tmp_path / name)) for name in ("old", "new"))
        address = stack.enter_context(Proxy(old.url))
        config = {"models": NULL_MODELS, "worker_id": "shopper", "telemetry": {"interval_s": 0.5}}
        worker = stack.enter_context(Worker(address.url, tmp_path / "worker", config, env=TEST_TASKS)).wait_ready()
        embed(old.url, "before")
        replicate(old, new)
        with new.client() as client:
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


def lose_connections_of_the_broker(server):
    """Those of the worker that fetch and settle; the ones that write answers stand."""
    with server.client() as client:
        mine = client.client_id()
        for each in client.client_list():
            if each["cmd"] != "evalsha" and "S" not in each["flags"] and int(each["id"]) != mine:
                client.client_kill_filter(_id=each["id"])


def test_no_message_is_lost_while_both_take_writes(tmp_path):
    """As in a failover that an operator asks Sentinel for: it tells the old master only after ten seconds."""
    with ExitStack() as stack:
        old, new = (stack.enter_context(Server("valkey", tmp_path / name)) for name in ("old", "new"))
        address = stack.enter_context(Proxy(old.url))
        texts = SLOW_TEXTS["null-text"] | {"options": {"item_s": 0.01}}
        config = {"models": {"null-text": texts}}
        worker = stack.enter_context(Worker(address.url, tmp_path / "worker", config, env=TEST_TASKS)).wait_ready()
        replicate(old, new)
        producer = Client(old.url)
        ids = [f"queued-{number}" for number in range(600)]
        producer.send_all((PREPARE_TEXT, {"task_id": task_id, "text": task_id}) for task_id in ids)
        wait_for(lambda: producer.redis.xlen("embedding_results") > len(ids) // 8, 30, "the first answers")
        with new.client() as client:
            client.replicaof("NO", "ONE")
            known = client.xlen("embedding_results")
            address._port = new.port
            wait_for(lambda: producer.redis.xlen("embedding_results") > known + 50, 20, "answers that are forgotten")
            assert producer.redis.xlen("embedding_results") < len(ids), "all was done before"
            lose_connections_of_the_broker(old)
            wait_for(lambda: client.xlen("embedding_results") >= len(ids), 60, "the answers at the new master")
            wait_for(lambda: client.zcard("unacked_index") == 0, 30, "nothing left")
            assert sorted(fields["task_id"] for _, fields in client.xrange("embedding_results")) == sorted(ids)
        producer.close()
        assert "are put back" in worker.log
        replicate(new, old)
        embed(new.url, "after")
