"""A broker whose address leads to another master while a consumer is connected to the old one."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import NamedTuple

import kombu
import pytest

from legit_embedding.broker import settlement
from legit_embedding.broker.settlement import note_answers
from legit_embedding.errors import TaskError
from legit_embedding.wire.result import Origin, Result, Written
from legit_embedding.wire.task import Address
from tests.integration.test_broker_step import Consumer
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import wait_for

QUEUE = kombu.Queue("embedding", kombu.Exchange("embedding"), routing_key="embedding")
RESULT = Result(Address("1"), Origin("celery", "1"), TaskError("expired", "it has expired"))


class Split(NamedTuple):
    """A consumer that has taken a message, and two servers, both of them masters; the address leads to the new one."""

    consumer: Consumer
    message: kombu.Message
    old: Server
    new: Server

    def is_settled(self):
        """Whether nothing is left at the new master; the alternative is that the message is in its queue again."""
        with self.new.client() as client:
            assert client.zcard("unacked_index") == client.hlen("unacked") == 0
            return client.llen("embedding") == 0


@contextmanager
def splitting(tmp_path):
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
            assert client.zcard("unacked_index") == 1, "it was settled before the test began"
        address._port = new.port
        yield Split(consumer, message, old, new)
        consumer.break_off()


@pytest.fixture
def split(tmp_path):
    with splitting(tmp_path) as split:
        yield split


@pytest.fixture
def moved(split):
    """The same, and the old server has become a replica."""
    with split.old.client() as client:
        client.replicaof("127.0.0.1", split.new.port)
    return split


def publish(server, body):
    with kombu.Connection(server.url) as connection:
        connection.Producer().publish(body, exchange=QUEUE.exchange, routing_key="embedding", declare=[QUEUE])


def answered(*servers):
    """Outcomes with answers that these servers have."""
    return [Written(RESULT, "embedding_results", "1-1", server.run_id) for server in servers]


def lose_idle_connections(consumer):
    consumer.task_consumer.channel.pool.disconnect(inuse_connections=False)


def test_messages_are_taken_from_the_new_master(moved):
    publish(moved.new, "after")
    consumer = moved.consumer

    def takes():
        with suppress(TimeoutError):
            consumer.connection.drain_events(timeout=0.2)
        return consumer.taken

    (message,) = wait_for(takes, 20, "the message at the new master")
    assert message.payload == "after"


def test_messages_are_settled_at_the_new_master(moved):
    moved.consumer.settle(moved.message)
    with moved.new.client() as client:
        assert client.zcard("unacked_index") == 1, "the old one still said that it is the master"
    moved.consumer.step.settle_done()
    assert moved.is_settled()


def test_a_message_is_put_back_where_its_answer_is_unknown(split, caplog):
    """Both servers take writes: the answer went to the old one, and is forgotten with it."""
    note_answers(split.message, answered(split.old))
    lose_idle_connections(split.consumer)
    split.consumer.settle(split.message)
    assert not split.is_settled()
    assert "1 messages are put back" in caplog.text
    assert split.consumer.moves == 1


def test_a_message_with_answers_at_both_is_put_back(split):
    note_answers(split.message, answered(split.new, split.old))
    lose_idle_connections(split.consumer)
    split.consumer.settle(split.message)
    assert not split.is_settled()


def test_a_message_is_settled_where_its_answer_is(split):
    note_answers(split.message, answered(split.new))
    lose_idle_connections(split.consumer)
    split.consumer.settle(split.message)
    assert split.is_settled()


def test_an_old_connection_is_left_for_the_answer_at_the_new_master(split):
    """The broker's connections have led to the new master already, and one to the old one is still open."""
    channel = split.consumer.task_consumer.channel
    other = channel.pool.get_connection()  # the idle one, which leads to the old master
    assert split.consumer.step._settlement.begin(channel) == 0
    channel.pool.release(other)
    note_answers(split.message, answered(split.new))
    split.consumer.settle(split.message)
    assert split.is_settled()


def test_an_answer_confirmed_before_the_old_master_died(split):
    """Which the new master may never have heard of."""
    split.consumer.break_off()
    note_answers(split.message, answered(split.old))
    split.old.kill()
    split.consumer.settle(split.message)
    split.consumer.connect()
    assert not split.is_settled()


def test_a_message_is_put_back_of_which_it_is_unknown_that_it_is_settled(split, caplog):
    """Answer and settlement went to the old master alone; without this it would come after the visibility timeout."""
    note_answers(split.message, answered(split.old))
    split.consumer.settle(split.message)
    split.consumer.break_off()
    split.consumer.connect()
    assert not split.is_settled()
    assert "1 messages are put back" in caplog.text


def test_a_settlement_that_is_known_to_the_new_master(split):
    with split.new.client() as client:
        client.delete("unacked", "unacked_index")
    note_answers(split.message, answered(split.old))
    split.consumer.settle(split.message)
    split.consumer.break_off()
    split.consumer.connect()
    assert split.is_settled()


def test_the_answers_server_need_not_be_the_brokers(split, tmp_path):
    with Server("valkey", tmp_path / "other") as other:
        note_answers(split.message, answered(other))
        lose_idle_connections(split.consumer)
        split.consumer.settle(split.message)
    assert split.is_settled()


def test_a_server_that_the_broker_left_long_ago_may_have_the_answers(split, monkeypatch):
    monkeypatch.setattr(settlement, "MOVING_S", 0.0)
    note_answers(split.message, answered(split.old))
    lose_idle_connections(split.consumer)
    split.consumer.settle(split.message)
    assert split.is_settled()


def test_an_answer_of_unknown_whereabouts(split):
    """Its server does not say who it is: the message is settled as on any worker."""
    note_answers(split.message, [Written(RESULT, "embedding_results", "1-1")])
    lose_idle_connections(split.consumer)
    split.consumer.settle(split.message)
    assert split.is_settled()
