"""How the worker takes, settles and keeps its messages, with kombu's own channels on a real server."""

from __future__ import annotations

import json
import logging
import time
from types import SimpleNamespace

import kombu
import pytest
import redis
from celery import Celery, bootsteps

from legit_embedding.broker.step import BrokerStep
from tests.waiting import wait_for

PREFETCH = 100

log = logging.getLogger(__name__)


@pytest.fixture
def queue():
    return kombu.Queue("embedding", kombu.Exchange("embedding"), routing_key="embedding")


class Consumer:
    """What the step uses of Celery's consumer, over one real connection after the other."""

    def __init__(self, url, queue, **options):
        self.url, self.queue, self.options = url, queue, options
        self.blueprint = SimpleNamespace(state=bootsteps.RUN)
        self.pool = SimpleNamespace(
            num_processes=1, delivery_tags=lambda: {message.delivery_tag for message in self.in_progress}
        )
        self.hub = None
        self.app = Celery("consumer", set_as_current=False)
        self.controller = SimpleNamespace(max_concurrency=None)
        self.prefetch_multiplier = 0
        self.connection_errors = self.channel_errors = ()
        self.taken = []
        self.in_progress = []
        self.step = BrokerStep(self)
        self.moves = 0
        self.step._settlement._moved = self._moved
        self.connect()

    def _moved(self):
        self.moves += 1

    def create_task_handler(self):
        raise AssertionError("the messages go to `taken`")

    def call_soon_ack(self, settle, *args):
        raise AssertionError("Redis's messages are settled together")

    def connect(self):
        self.connection = kombu.Connection(self.url, **self.options)
        self.task_consumer = self.connection.Consumer(
            [self.queue], on_message=self.taken.append, auto_declare=True, prefetch_count=PREFETCH
        )
        self.step.start(self)
        self.task_consumer.consume()

    def break_off(self):
        self.connection.close()
        self.step.stop(self)

    def take(self, count=1):
        """The next `count` messages; those after the prefetch count as the ones before are settled."""
        taken = []
        while len(taken) < count:
            self.connection.drain_events(timeout=5)
            taken += self.taken
            if count > PREFETCH:
                for message in self.taken:
                    self.settle(message)
            self.taken.clear()
        return taken

    def settle(self, message):
        self.step._settle_soon(message.ack_log_error, log, ())


@pytest.fixture
def make_consumer(redis_url, queue):
    consumers = []

    def make(**options):
        consumers.append(Consumer(redis_url, queue, **options))
        return consumers[-1]

    yield make
    for consumer in consumers:
        consumer.break_off()


@pytest.fixture
def consumer(make_consumer):
    return make_consumer()


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


def test_messages_are_noted_as_kombu_notes_them(consumer, redis_url, queue, client, send):
    send("a")
    (ours,) = consumer.take()
    (noted,) = client.hgetall("unacked").items()
    scores = client.zrange("unacked_index", 0, -1, withscores=True)
    consumer.settle(ours)
    send("a")
    with kombu.Connection(redis_url) as connection:
        theirs = []
        with connection.Consumer([queue], on_message=theirs.append):
            connection.drain_events(timeout=5)
            (by_kombu,) = client.hgetall("unacked").items()
            assert noted[0].decode() == ours.delivery_tag
            mine, its = json.loads(noted[1]), json.loads(by_kombu[1])
            for message, *_ in (mine, its):
                for own in ("correlation_id", "delivery_tag"):
                    message["properties"].pop(own, None)
            assert mine == its
            assert scores[0][0] == noted[0]
            assert abs(scores[0][1] - time.time()) < 60
            theirs[0].ack()


def test_nothing_is_taken_without_being_noted(consumer, client, send):
    """The server does both in one step, so a process that dies before it hears of a message does not lose it."""
    send(*range(20))
    channel = consumer.task_consumer.channel
    consumer.connection.transport.cycle._register_BRPOP(channel)  # asks, and never reads the answer
    wait_for(lambda: client.llen("embedding") < 20, 5, "the server to answer")
    assert client.llen("embedding") + client.hlen("unacked") == 20


def test_no_more_is_taken_than_the_prefetch_count_allows(consumer, client, send):
    send(*range(PREFETCH + 30))
    consumer.take(PREFETCH)
    with pytest.raises(TimeoutError):
        consumer.connection.drain_events(timeout=0.3)
    assert client.llen("embedding") == 30
    assert client.hlen("unacked") == PREFETCH


def test_messages_come_in_order(consumer, send):
    send(*range(150))
    assert [message.payload for message in consumer.take(150)] == list(range(150))


def test_priorities_come_first(redis_url, queue, make_consumer):
    with kombu.Connection(redis_url) as connection:
        for body, priority in (("late", 9), ("soon", 0), ("late", 9), ("soon", 0)):
            connection.Producer().publish(
                body, exchange=queue.exchange, routing_key="embedding", declare=[queue], priority=priority
            )
    assert [message.payload for message in make_consumer().take(4)] == ["soon", "soon", "late", "late"]


def test_what_is_no_message_is_logged_and_the_rest_is_taken(consumer, client, send, caplog):
    client.lpush("embedding", b"\xff garbage", b"[]", b'{"properties": {}}')
    send("a")
    (message,) = consumer.take()
    assert message.payload == "a"
    assert caplog.text.count("cannot be a task, and is taken out") == 3


def test_a_key_prefix_is_kept(redis_url, client, queue, make_consumer):
    consumer = make_consumer(transport_options={"global_keyprefix": "app:"})
    with kombu.Connection(redis_url, transport_options={"global_keyprefix": "app:"}) as connection:
        connection.Producer().publish("a", exchange=queue.exchange, routing_key="embedding", declare=[queue])
    (message,) = consumer.take()
    assert client.hkeys("app:unacked") == [message.delivery_tag.encode()]
    consumer.settle(message)
    assert not client.exists("app:unacked", "unacked")


def test_a_rejected_message_comes_again(consumer, client, send):
    send("a")
    (message,) = consumer.take()
    consumer.step._settle_soon(message.reject_log_error, log, (), requeue=True)
    (message,) = consumer.take()
    consumer.step._settle_soon(message.reject_log_error, log, (), False)
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


def test_what_is_settled_in_vain_is_settled_later(consumer, client, send, caplog):
    send("a")
    (message,) = consumer.take()
    client.rename("unacked", "moved")
    client.set("unacked", "no hash")
    consumer.settle(message)
    assert "WRONGTYPE" in caplog.text
    client.rename("moved", "unacked")
    consumer.step.settle_done()
    assert client.hlen("unacked") == client.zcard("unacked_index") == 0


def test_at_shutdown_kombu_puts_everything_back(consumer, client, send):
    send("a", "b")
    consumer.in_progress = consumer.take(2)
    consumer.blueprint.state = bootsteps.CLOSE
    consumer.connection.close()
    assert client.llen("embedding") == 2
