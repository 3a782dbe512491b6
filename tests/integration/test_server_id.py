"""Connections that know to which server they lead."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
import redis

from legit_embedding.config import StreamConfig
from legit_embedding.dead_letter.messages import DeadMessages
from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.redis_io.client import make_client
from legit_embedding.redis_io.connection import Link
from legit_embedding.redis_io.server_id import UNKNOWN, greet, identify, server_of
from tests.integration.test_sink import Settled, make_writer, result
from tests.proxy import Proxy
from tests.servers import Server
from tests.told import put
from tests.waiting import wait_for


@pytest.fixture
def server(tmp_path):
    with Server("valkey", tmp_path / "server") as server:
        yield server


@pytest.fixture
def without_info(server):
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "worker", "on", "nopass", "~*", "&*", "+@all", "-info")
    return server.url.replace("//", "//worker:any@")


def connections_of(url, **options):
    pool = redis.ConnectionPool.from_url(url, **options)
    connection = pool.get_connection()
    yield connection
    pool.release(connection)
    pool.disconnect()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode_responses", [False, True])
def test_a_server_tells_who_it_is(server, protocol, decode_responses):
    for connection in connections_of(server.url, protocol=protocol, decode_responses=decode_responses):
        assert identify(connection) == identify(connection) == server.run_id


def test_a_connection_made_anew_leads_to_another_server(server, tmp_path):
    greeted = []
    options = {"redis_connect_func": lambda connection: (connection.on_connect(), greeted.append(connection))}
    with Server("valkey", tmp_path / "other") as other, Proxy(server.url) as address:
        for connection in connections_of(address.url):
            assert identify(connection) == server.run_id
            address._port = other.port
            assert identify(connection) == server.run_id, "it still leads there"
            connection.disconnect()
            connection.connect()
            assert identify(connection) == other.run_id
        for connection in connections_of(address.url, **options):
            identify(connection)
            connection.disconnect()
            connection.connect()
            assert identify(connection) == other.run_id
            assert len(greeted) == 2, "what its owner does for each connection is still done"


def test_a_server_may_keep_it_to_itself(without_info):
    for connection in connections_of(without_info):
        assert identify(connection) == UNKNOWN
        connection.disconnect()
        connection.connect()
        assert identify(connection) == UNKNOWN


def test_our_own_client(server):
    seen = []

    def connected(connection):
        greet(connection)
        seen.append(server_of(connection))

    with make_client(RedisAddress.of(server.url), 5, on_connect=connected) as client:
        assert client.ping()
    assert seen == [server.run_id]


def test_a_link(server, without_info, tmp_path):
    async def ask(link):
        async with link.hold() as connection:
            return connection.server

    async def main():
        link = Link(address.url, 5)
        assert await ask(link) == server.run_id
        async with link.hold():
            address._port = other.port
            await link.reset()
        assert await ask(link) == other.run_id, "a connection that was in use is left too"
        await link.close()
        link = Link(without_info, 5)
        assert await ask(link) == UNKNOWN
        await link.close()

    with Server("valkey", tmp_path / "other") as other, Proxy(server.url) as address:
        asyncio.run(main())


def test_an_answer_knows_its_server(server, tmp_path):
    def ask():
        settled = Settled()
        put(writer, result("1"), settled)
        return settled.wait(1)[0].server

    with (
        Server("valkey", tmp_path / "other") as other,
        Proxy(server.url) as address,
        closing(make_writer(address.url)) as writer,
    ):
        assert ask() == server.run_id
        address._port = other.port
        assert ask() == server.run_id, "the old connection stands"
        writer.leave_server()
        wait_for(lambda: ask() == other.run_id, 20, "an answer at the other server")


def test_an_answer_in_the_dead_letter_knows_its_server(server):
    with server.client() as client, closing(make_writer(server.url)) as writer:
        client.set(StreamConfig().results, "not a stream")
        settled = Settled()
        put(writer, result("1"), settled)
        (written,) = settled.wait(1)
        assert (written.stream, written.server) == (StreamConfig().dead_letter, server.run_id)


def test_a_malformed_message_is_kept_by_a_known_server(server):
    dead = DeadMessages(RedisAddress.of(server.url), "dead")
    assert dead.keep("queue", "{", "it is no JSON", "") == dead.keep("queue", "{", "it is no JSON", "") == server.run_id
