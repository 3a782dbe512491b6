"""RabbitMQ as the broker: the results still go to Redis."""

from __future__ import annotations

import base64

import pytest
from kombu import Connection

from tests.acceptance.conftest import NULL_MODELS
from tests.acceptance.test_hostile_messages import message
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
    batching = client.batching()
    assert batching["slow"]["batch_size_avg"] > 4, "the two threads bound no batch"
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


ODD = {
    "a number": {"headers": {"task": 5}},
    "a list": {"headers": {"task": ["x"]}},
    "no task": {"headers": {"task": None}},
    "eta": {"headers": {"eta": [1]}},
    "timelimit": {"headers": {"timelimit": "x"}},
    "expires": {"headers": {"expires": {"a": 1}}},
    "retries": {"headers": {"retries": "x"}},
    "id": {"headers": {"id": 5}},
    "no id": {"headers": {"id": None}},
    "no JSON": {"body": b"{"},
    "one element": {"body": b"[1]"},
    "nothing": {"body": b""},
    "null": {"body": b"null"},
    "brackets": {"body": b"[" * 10_000 + b"]" * 10_000},
    "no UTF-8": {"body": b"\xff\xfe"},
    "another content type": {"content_type": "application/x-python-serialize"},
    "an unknown encoding": {"content_encoding": "klingon"},
    "an unknown compression": {"headers": {"compression": "klingon"}},
}


def test_malformed_messages_hold_neither_their_neighbours_nor_a_shutdown(broker, worker, client):
    good = []
    with Connection(broker.url) as connection:
        producer = connection.Producer(routing_key="embedding")
        for number, odd in enumerate(ODD.values()):
            for task_id, changes in ((f"odd-{number}", odd), (f"good-{number}", {})):
                raw = message(task_id)
                producer.publish(
                    changes.get("body", base64.b64decode(raw["body"])),
                    headers=raw["headers"] | changes.get("headers", {}),
                    content_type=changes.get("content_type", "application/json"),
                    content_encoding=changes.get("content_encoding", "utf-8"),
                    correlation_id=raw["properties"]["correlation_id"],
                )
                good += [] if changes else [task_id]
    answers = client.answers(good)
    assert {answers[each]["status"] for each in good} == {"ok"}
    assert worker.running
    assert "Unrecoverable error" not in worker.log
    assert worker.stop(timeout=20) == 0
    assert waiting(broker) == 0, "each is taken out"
