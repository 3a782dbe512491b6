"""RabbitMQ as the broker: the results still go to Redis."""

from __future__ import annotations

import pytest
from kombu import Connection

from tests.acceptance.conftest import NULL_MODELS
from tests.clients import PREPARE_TEXT, Client
from tests.rabbitmq import PROGRAM, RabbitMQ
from tests.workers import wait_for

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no rabbitmq-server")
SLOW = {"models": {"slow": NULL_MODELS["null-text"] | {"options": {"batch_s": 0.1}, "max_batch": 8}}}


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@pytest.fixture
def worker(broker, make_worker, tmp_path):
    (tmp_path / "rabbit.py").write_text(f"from tests.profile import *\nbroker_url = {broker.url!r}\n")
    env = {"CELERY_CONFIG_MODULE": "rabbit", "PYTHONPATH": str(tmp_path)}
    with make_worker(SLOW, env=env) as worker:
        yield worker.wait_ready()


@pytest.fixture
def client(broker, redis_url):
    client = Client(redis_url)
    client.app.conf.broker_url = broker.url
    return client


def waiting(broker):
    with Connection(broker.url) as connection:
        return connection.default_channel.queue_declare("embedding", passive=True).message_count


def test_each_is_answered_and_acknowledged(broker, worker, client):
    ids = [f"t{n}" for n in range(200)]
    client.send_all((PREPARE_TEXT, {"task_id": each, "text": each}) for each in ids)
    answers = client.answers(ids)
    assert {entry["status"] for entry in answers.values()} == {"ok"}
    batching = next(iter(client.app.control.inspect(timeout=10, limit=1).stats().values()))["pool"]["batching"]
    assert batching["slow"]["batch-size-avg"] > 4, "the two threads bound no batch"
    assert worker.stop() == 0
    assert waiting(broker) == 0, "the broker would count what was not acknowledged"
    assert client.redis.xlen("embedding_results") == 200


def test_a_restart_of_the_broker_while_items_wait(broker, worker, client):
    ids = [f"t{n}" for n in range(240)]
    client.send_all((PREPARE_TEXT, {"task_id": each, "text": each}) for each in ids)
    client.wait_for_entries(8)
    broker.stop()
    assert client.redis.xlen("embedding_results") < 200, "the restart comes too late to show anything"
    broker.start()
    client.answers(ids)
    wait_for(lambda: waiting(broker) == 0, 30, "the queue to empty")
    assert worker.stop() == 0
    assert waiting(broker) == 0, "everything was acknowledged"
    counts = [entry["task_id"] for entry in client.entries()]
    assert len(counts) == len(set(counts)) == len(ids)
