"""One Sentinel address for broker, streams, telemetry and commands, through real failovers under load."""

from __future__ import annotations

import pytest

from legit_embedding.redis_io.address import RedisAddress
from tests.acceptance.conftest import SLOW_TEXTS
from tests.clients import PREPARE_TEXT, AddressedClient
from tests.sentinels import Watched
from tests.unit.cli.invoking import Cli
from tests.workers import Worker, wait_for

STREAMED, QUEUED = 1500, 500


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    with Watched(tmp_path_factory.mktemp("watched")) as watched:
        yield watched


@pytest.fixture(scope="module")
def worker(watched, tmp_path_factory):
    config = {
        "models": SLOW_TEXTS,
        "worker_id": "shopper",
        "telemetry": {"interval_s": 0.5},
        "streams": {"claim_idle_ms": 5000},
    }
    env = {"CELERY_CONFIG_MODULE": "tests.sentinel_profile"}
    with Worker(watched.url, tmp_path_factory.mktemp("worker"), config, env=env) as worker:
        yield worker.wait_ready()


@pytest.fixture
def producer(watched):
    producer = AddressedClient(watched.url)
    yield producer
    producer.close()


def is_well(cli):
    return cli.json("top", "--once", "--json")["workers"] and cli("health", code=None).stdout == "shopper is running\n"


def test_everything_works_on_one_address(watched, worker, producer):
    assert producer.text("one", task_id="one").get(timeout=20)["status"] == "ok"
    producer.redis.xadd("embedding_tasks", {"task_id": "two", "text": "two"})
    assert producer.answers(["one", "two"])["two"]["worker"] == "shopper"
    cli = Cli(REDIS_URL=watched.url, WORKER_ID="shopper")
    assert cli("health").stdout == "shopper is running\n"
    assert cli.json("streams", "--json")["server"] == RedisAddress.of(watched.url).public
    (shown,) = cli.json("top", "--once", "--json")["workers"]
    assert (shown["worker"], shown["state"]) == ("shopper", "running")
    assert "of-the" not in worker.log, "a password is in the log"


def load(producer, prefix):
    """Put tasks in both ways, known to the replica too."""
    streamed = [f"{prefix}-streamed-{number}" for number in range(STREAMED)]
    pipe = producer.redis.pipeline()
    for task_id in streamed:
        pipe.xadd("embedding_tasks", {"task_id": task_id, "text": task_id})
    pipe.execute()
    queued = [f"{prefix}-queued-{number}" for number in range(QUEUED)]
    producer.send_all((PREPARE_TEXT, {"task_id": task_id, "text": task_id}) for task_id in queued)
    assert producer.redis.wait(1, 10_000) == 1
    return {*streamed, *queued}


@pytest.mark.parametrize("how", ["an operator asks for it", "the master is killed"])
def test_every_id_is_answered_once_through_a_failover(watched, worker, producer, how):
    watched.wait_for_replica()
    producer.redis.delete("embedding_results")
    ids = load(producer, how.split()[-1])
    before = watched.master()
    wait_for(lambda: producer.redis.xlen("embedding_results") > len(ids) // 8, 30, "the first answers")
    assert producer.redis.xlen("embedding_results") < len(ids), "all was done before the failover"
    if how == "the master is killed":
        before.kill()
        wait_for(lambda: watched.master() is not before, 30, "another master")
    else:
        watched.fail_over()
    after = watched.master()
    with after.client() as client:
        wait_for(lambda: client.info("replication")["role"] == "master", 20, "the new master")
        wait_for(lambda: client.xlen("embedding_results") >= len(ids), 60, "the answers at the new master")
        wait_for(lambda: client.xlen("embedding_tasks") == client.zcard("unacked_index") == 0, 30, "nothing left")
        answered = [fields["task_id"] for _, fields in client.xrange("embedding_results")]
    assert set(answered) == ids
    assert len(answered) == len(ids), "an id is answered twice"
    assert worker.running
    cli = Cli(REDIS_URL=watched.url, WORKER_ID="shopper")
    wait_for(lambda: is_well(cli), 30, "a worker that is well again")
    assert producer.text("later", task_id="later").get(timeout=20)["status"] == "ok"
