"""Messages that the worker holds when its connection to Redis breaks, with kombu's own channels."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import kombu
import pytest
import redis
from celery import bootsteps
from kombu.transport.redis import QoS

from legit_embedding.pool.reconnect import Reconnect

log = logging.getLogger(__name__)


@pytest.fixture
def queue():
    return kombu.Queue("embedding", kombu.Exchange("embedding"), routing_key="embedding")


class Consumer:
    """What the step uses of Celery's consumer, over one real connection after the other."""

    def __init__(self, url, queue):
        self.url, self.queue = url, queue
        self.blueprint = SimpleNamespace(state=bootsteps.RUN)
        self.pool = SimpleNamespace(delivery_tags=lambda: {message.delivery_tag for message in self.in_progress})
        self.hub = None
        self.taken = []
        self.in_progress = []
        self.step = Reconnect(self)
        self.connect()

    def call_soon_ack(self, settle, *args):
        settle(*args)

    def connect(self):
        self.connection = kombu.Connection(self.url)
        self.task_consumer = self.connection.Consumer(
            [self.queue], on_message=self.taken.append, auto_declare=True, prefetch_count=100
        )
        self.step.start(self)
        self.task_consumer.consume()

    def break_off(self):
        self.connection.close()
        self.step.stop(self)

    def take(self, count=1):
        while len(self.taken) < count:
            self.connection.drain_events(timeout=5)
        taken, self.taken[:] = list(self.taken), []
        return taken

    def settle(self, message):
        self.call_soon_ack(message.ack_log_error, log, ())


@pytest.fixture
def consumer(redis_url, queue):
    return Consumer(redis_url, queue)


@pytest.fixture
def client(redis_url):
    return redis.Redis.from_url(redis_url)


@pytest.fixture
def send(redis_url, queue):
    def send(*bodies):
        with kombu.Connection(redis_url) as connection:
            for body in bodies:
                connection.Producer().publish(body, exchange=queue.exchange, routing_key="embedding", declare=[queue])

    return send


@pytest.mark.parametrize("noted", [False, True], ids=["the note was lost", "only its answer was lost"])
def test_a_half_taken_message_is_put_back(redis_url, queue, client, send, monkeypatch, noted):
    note = QoS.append

    def append(qos, message, tag):
        if noted:
            note(qos, message, tag)
            qos._delivered.pop(tag)
        raise redis.ConnectionError("cut")

    send("a")
    with monkeypatch.context() as patch:
        patch.setattr(QoS, "append", append)
        consumer = Consumer(redis_url, queue)
        with pytest.raises(redis.ConnectionError):
            consumer.take()
        consumer.break_off()
    assert client.llen("embedding") == 0
    consumer.connect()
    (message,) = consumer.take()
    assert message.payload == "a"
    consumer.settle(message)
    assert client.hlen("unacked") == client.llen("embedding") == 0


def test_a_message_in_progress_is_not_taken_twice(consumer, client, send):
    send("a", "b")
    consumer.in_progress = consumer.take(2)
    consumer.break_off()
    consumer.connect()
    assert client.llen("embedding") == 0
    for message in consumer.in_progress:
        consumer.settle(message)
    assert client.hlen("unacked") == 0


def test_a_message_settled_between_two_connections(consumer, client, send):
    send("a")
    (message,) = consumer.in_progress = consumer.take()
    consumer.break_off()
    consumer.settle(message)
    consumer.in_progress = []
    consumer.connect()
    assert client.hlen("unacked") == client.llen("embedding") == 0


def test_a_message_that_only_waited_is_put_back(consumer, client, send):
    send("a")
    consumer.take()
    consumer.break_off()
    consumer.connect()
    (message,) = consumer.take()
    assert message.payload == "a"
    consumer.settle(message)
    assert client.hlen("unacked") == 0


def test_at_shutdown_kombu_puts_everything_back(consumer, client, send):
    send("a", "b")
    consumer.in_progress = consumer.take(2)
    consumer.blueprint.state = bootsteps.CLOSE
    consumer.connection.close()
    assert client.llen("embedding") == 2
