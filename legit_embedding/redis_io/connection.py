"""Asynchronous connections to one Redis-compatible server, with a timeout on every wait."""

from __future__ import annotations

import hashlib
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from hiredis import pack_command
from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from legit_embedding.errors import in_one_line
from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.redis_io.client import make_async_pool
from legit_embedding.redis_io.server_id import server_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio.connection import AbstractConnection

    Argument = bytes | str | int
    Command = Sequence["Argument | Packed"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between attempts: exponential, with jitter so that a fleet does not reconnect at the same moment."""

    first_s: float = 0.05
    cap_s: float = 5.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait after this many consecutive failures, starting at 1."""
        longest = min(self.cap_s, self.first_s * 2.0 ** min(attempt - 1, 16))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads the load, keeps no secret


class Script:
    """A Lua script, which the server identifies by its hash."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Packed:
    """Arguments already encoded in the Redis protocol, for large batches; allowed only as a command's last argument.

    Encoding and sending a result as a whole costs 5.4 us of processor time; by redis-py's script call, argument by
    argument, 23 us (`benchmarks.commits`).
    """

    count: int
    chunks: Sequence[bytes]


class Connection:
    """One connection. An abandoned call drops it, so that no reply is matched to another call."""

    left = False
    """True once another server is responsible for what this connection was held for."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._awaited = 0

    @property
    def server(self) -> str:
        """The id of the server to which it leads; see `server_id`."""
        return server_of(self._connection)

    @property
    def is_owed(self) -> bool:
        """True while replies are still to come, so that the next reply does not belong to the next command."""
        return self._awaited > 0

    async def call(self, *command: Argument | Packed) -> Any:  # noqa: ANN401 - a reply is what the command makes it
        """Send one command; see `Link.call`."""
        (reply,) = await self.pipeline([command])
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def run(self, script: Script, keys: Sequence[Argument], arguments: Command) -> Any:  # noqa: ANN401
        """Run a script; see `Link.run`."""
        return await _run(self, script, keys, arguments)

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands; see `Link.pipeline`."""
        await self.send(commands)
        return await self.receive(commands)

    async def send(self, commands: Sequence[Command]) -> None:
        """Send several commands, whose replies are received later, in the same order."""
        if commands:
            packed = [chunk for command in commands for chunk in _pack(command)]
            # A health check would take the next reply for its own.
            await self._connection.send_packed_command(packed, check_health=not self.is_owed)
            self._awaited += len(commands)

    async def receive(self, commands: Sequence[Command]) -> list[Any]:
        """Wait for the replies to the commands that were sent first; an error reply is one of them."""
        return [await self._reply() for _ in commands]

    async def _reply(self) -> Any:  # noqa: ANN401
        try:
            reply = await self._connection.read_response()
        except ResponseError as error:
            reply = error
        self._awaited -= 1
        return reply


class Link:
    """A connection pool for one server; every method belongs to the event loop that first used it.

    A failed call is not repeated here: only the caller knows whether that is safe.

    Args:
        url: the server.
        timeout_s: how long the server may take to answer, in seconds; the url's own ``socket_timeout`` wins.
    """

    def __init__(self, url: str | RedisAddress, timeout_s: float) -> None:
        self._pool = make_async_pool(RedisAddress.of(url), timeout_s)
        self._resets = 0
        self.timeout_s: float = self._pool.connection_kwargs["socket_timeout"]

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Connection]:
        """Reserve one connection for the caller.

        Raises:
            RedisError: the server is unreachable.
        """
        resets, connection = self._resets, await self._pool.get_connection()
        held = Connection(connection)
        try:
            yield held
        finally:
            if held.is_owed or resets != self._resets:
                await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def call(self, *command: Argument | Packed) -> Any:  # noqa: ANN401 - a reply is what the command makes it
        """Send one command and return its reply.

        Raises:
            RedisError: the server is unreachable, or refused the command.
        """
        async with self.hold() as connection:
            return await connection.call(*command)

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands in one round trip; a refused one yields its `ResponseError` instead of a reply.

        Raises:
            RedisError: the server is unreachable; which commands it has executed is unknown.
        """
        async with self.hold() as connection:
            return await connection.pipeline(commands)

    async def run(self, script: Script, keys: Sequence[Argument], arguments: Command) -> Any:  # noqa: ANN401
        """Run a script, sending its source only if the server does not know it yet."""
        return await _run(self, script, keys, arguments)

    async def reset(self) -> None:
        """Drop the connections, those in use after their calls, so that the next connects and resolves the host anew.

        To be called after a failure: after a failover, a connection that is still open may lead to the wrong server.
        """
        self._resets += 1
        await self._pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Drop every connection."""
        await self._pool.disconnect()


async def _run(to: Connection | Link, script: Script, keys: Sequence[Argument], arguments: Command) -> Any:  # noqa: ANN401
    try:
        return await to.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
    except NoScriptError:
        return await to.call("EVAL", script.source, len(keys), *keys, *arguments)


def _pack(command: Command) -> list[bytes]:
    last = command[-1]
    if not isinstance(last, Packed):
        return [pack_command(cast("Any", tuple(command)))]  # redis-py's annotations allow only commands of one word
    head: bytes = pack_command(cast("Any", tuple(command[:-1])))
    _, _, arguments = head.partition(b"\r\n")  # the first line holds the number of arguments
    return [b"*%d\r\n%b" % (len(command) - 1 + last.count, arguments), *last.chunks]


def explain(error: BaseException) -> str:
    """Describe an error in one line; an error without a message is described by its name."""
    if isinstance(error, NoPermissionError):
        return f"NOPERM {error}"  # redis-py strips the first word of errors for which it has a class
    return in_one_line(error, named=False)
