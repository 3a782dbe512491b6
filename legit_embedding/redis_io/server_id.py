"""The server behind a connection, known by the id that each server process makes up when it starts.

An address is no identity: a DNS name, a proxy or a Sentinel leads to another server after a failover, while connections
to the old one stand.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection as AsyncConnection
    from redis.connection import AbstractConnection

UNKNOWN = ""
"""Stands for a server that does not tell its id, or not to this user: asking takes the right to ``INFO``."""

_QUESTION = ("INFO", "server")
_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


def server_of(connection: AbstractConnection | AsyncConnection) -> str:
    """The id of the server to which a connection leads that was made with `greet`, `greet_async` or `identify`."""
    found: str = vars(connection).get("server_id", UNKNOWN)
    return found


def greet(connection: AbstractConnection) -> None:
    """Greet the server over a new connection as redis-py does, and ask for its id; a ``redis_connect_func``.

    Raises:
        RedisError: the connection is lost, or the server refuses it.
    """
    connection.on_connect()
    _ask(connection)


async def greet_async(connection: AsyncConnection) -> None:
    """Do as `greet`, over an asynchronous connection."""
    await connection.on_connect()
    await connection.send_command(*_QUESTION, check_health=False)
    try:
        reply = await connection.read_response(disable_decoding=True)
    except ResponseError:
        reply = None
    _note(connection, reply)


def identify(connection: AbstractConnection) -> str:
    """The id of the server to which anybody's connection leads, which is asked for once per session from now on.

    Args:
        connection: one that is connected.

    Raises:
        RedisError: the connection is lost.
    """
    if "server_id" not in vars(connection):
        _ask(connection)
        theirs = connection.redis_connect_func

        def reconnected(connection: AbstractConnection) -> None:
            if theirs is None:
                greet(connection)
            else:
                theirs(connection)  # type: ignore[call-arg]
                _ask(connection)

        connection.redis_connect_func = reconnected  # type: ignore[assignment]
    return server_of(connection)


def _ask(connection: AbstractConnection) -> None:
    connection.send_command(*_QUESTION, check_health=False)  # a health check may connect anew
    try:
        reply = connection.read_response(disable_decoding=True)
    except ResponseError:
        reply = None
    _note(connection, reply)


def _note(connection: AbstractConnection | AsyncConnection, reply: Any) -> None:  # noqa: ANN401 - whatever is sent
    found = _ID.search(reply) if isinstance(reply, bytes) else None
    vars(connection)["server_id"] = found[1].decode() if found else UNKNOWN
