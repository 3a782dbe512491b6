"""A broker whose address leads to another master while a consumer is connected to the old one."""

from __future__ import annotations

from contextlib import suppress

import kombu
import pytest

from tests.integration.test_broker_step import Consumer
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import wait_for

QUEUE = kombu.Queue("embedding", kombu.Exchange("embedding"), routing_key="embedding")


@pytest.fixture
def moved(tmp_path):
    """A consumer that has taken a message, and the two servers, whose roles have changed since."""
    with (
        Server("valkey", tmp_path / "old") as old,
        Server("valkey", tmp_path / "new") as new,
        Proxy(old.url) as address,
    ):
        consumer = Consumer(address.url, QUEUE)
        publish(old, "before")
        (message,) = consumer.take()
        with consumer.task_consumer.channel.conn_or_acquire() as pooled:
            pooled.ping()
        with new.client() as client:
            client.replicaof("127.0.0.1", old.port)
            wait_for(lambda: client.info("replication")["master_link_status"] == "up", 20, "the replica's data")
            client.replicaof("NO", "ONE")
        address._port = new.port
        with old.client() as client:
            client.replicaof("127.0.0.1", new.port)
        yield consumer, message, new
        consumer.break_off()


def publish(server, body):
    with kombu.Connection(server.url) as connection:
        connection.Producer().publish(body, exchange=QUEUE.exchange, routing_key="embedding", declare=[QUEUE])


def test_messages_are_taken_from_the_new_master(moved):
    consumer, _, new = moved
    publish(new, "after")

    def takes():
        with suppress(TimeoutError):
            consumer.connection.drain_events(timeout=0.2)
        return consumer.taken

    (message,) = wait_for(takes, 20, "the message at the new master")
    assert message.payload == "after"


def test_messages_are_settled_at_the_new_master(moved):
    consumer, message, new = moved
    consumer.settle(message)
    with new.client() as client:
        assert client.zcard("unacked_index") == 1, "it was settled before the test began"
        consumer.step.settle_done()
        assert client.zcard("unacked_index") == 0
