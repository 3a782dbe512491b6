"""Asynchronous connections to a Redis Cluster.

redis-py's own asynchronous cluster client is not used: it sends ``ASKING`` and the command that needs it over two
connections of its pool, asks the server for the keys of each XREADGROUP, and packs arguments one by one.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from legit_embedding.redis_io.connection import Connection, Link, Packed, explain
from legit_embedding.redis_io.server_id import UNKNOWN
from legit_embedding.redis_io.slots import slot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from legit_embedding.redis_io.address import Host, RedisAddress
    from legit_embedding.redis_io.connection import Argument, Command

_MOST_HOPS = 5
"""Redirections of one command: one after a failover or a finished move, two in the middle of one."""


def make_link(address: RedisAddress, timeout_s: float, home: str) -> Link:
    """Make the link to a server or to a cluster; it is not connected yet.

    Args:
        address: where it leads.
        timeout_s: how long the server may take to answer, in seconds; the address's own ``socket_timeout`` wins.
        home: the key whose node gets what has no key, and the connections that are held.
    """
    return ClusterLink(address, timeout_s, home) if address.is_cluster else Link(address, timeout_s)


class ClusterLink(Link):
    """A link to each node of a cluster; a command goes to the node of its first key, and follows a key that moves.

    Nothing but a redirected command, which was not executed, is sent again.

    Args:
        address: some nodes of the cluster; it tells of the others.
        timeout_s: as for `make_link`.
        home: as for `make_link`.
    """

    def __init__(self, address: RedisAddress, timeout_s: float, home: str) -> None:
        super().__init__(address, timeout_s)
        self._address = address
        self._given_s = timeout_s
        self._home = home
        self._hosts: Sequence[Host] = address.hosts
        """The nodes to ask for the others, in this order."""
        self._homes: dict[int, Host] = {}
        """The node of each slot, as far as is known."""
        self._links: dict[Host, Link] = {}

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Connection]:
        """Reserve a connection to the node of the home key."""
        host = await self._host_of(self._home)
        async with self._link(host).hold() as connection:
            yield _HeldConnection(connection, self, host)

    async def call(self, *command: Argument | Packed) -> Any:  # noqa: ANN401 - a reply is what the command makes it
        """Send one command to the node of its key."""
        host = await self._host_of(self._key(command))
        (reply,) = await self.followed(host, [command], await self._link(host).pipeline([command]))
        if isinstance(reply, RedisError):
            raise reply
        return reply

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands in one round trip per node."""
        hosts = [await self._host_of(self._key(command)) for command in commands]
        replies: list[Any] = [None] * len(commands)
        for host in dict.fromkeys(hosts):
            places = [place for place, each in enumerate(hosts) if each == host]
            mine = [commands[place] for place in places]
            answers = await self.followed(host, mine, await self._link(host).pipeline(mine))
            for place, answer in zip(places, answers, strict=True):
                replies[place] = answer
        return replies

    async def followed(self, host: Host, commands: Sequence[Command], replies: Sequence[Any]) -> list[Any]:
        """The replies of a node, with those of other nodes in place of its redirections."""
        return [await self._follow(host, command, reply) for command, reply in zip(commands, replies, strict=True)]

    async def reset(self) -> None:
        """Drop the idle connections, and what is known of the nodes."""
        self._homes = {}
        for link in [*self._links.values()]:  # others may connect meanwhile
            await link.reset()

    async def close(self) -> None:
        """Drop every connection."""
        for link in [*self._links.values()]:
            await link.close()

    async def _follow(self, host: Host, command: Command, reply: Any) -> Any:  # noqa: ANN401
        for _ in range(_MOST_HOPS):
            if not isinstance(reply, AskError):
                break
            host = (reply.host or host[0], reply.port)
            if isinstance(reply, MovedError):  # which is an `AskError` too
                self._homes[reply.slot_id] = host
                (reply,) = await self._link(host).pipeline([command])
            else:
                _, reply = await self._link(host).pipeline([("ASKING",), command])
        return reply

    def _key(self, command: Command) -> Argument | Packed:
        match command:
            case ("EVAL" | "EVALSHA", _, _, key, *_) | ("XGROUP", _, key, *_):
                return key
            case ("XREADGROUP", *rest):
                return rest[rest.index("STREAMS") + 1]
            case ("PING" | "CLIENT", *_):
                return self._home
            case (_, key, *_):
                return key
        message = f"there is no key in {command!r}"
        raise ValueError(message)

    async def _host_of(self, key: Argument | Packed) -> Host:
        if not isinstance(key, (str, bytes)):
            message = f"{key!r} is no key"
            raise TypeError(message)
        if not self._homes:
            await self._learn()
        host = self._homes.get(slot(key))
        if host is None:
            message = f"no node serves the slot of {key!r}"
            raise ClusterDownError(message)
        return host

    async def _learn(self) -> None:
        """Ask one node which of them serves which slots."""
        refusal: Exception | None = None
        for host in self._hosts:
            try:
                ranges = await self._link(host).call("CLUSTER", "SLOTS")
            except (RedisError, OSError) as error:
                refusal = error
                continue
            homes: dict[int, Host] = {}
            found: list[Host] = []
            for first, last, *nodes in ranges:
                names = [((name or b"").decode() or host[0], port) for name, port, *_ in nodes]
                homes |= dict.fromkeys(range(first, last + 1), names[0])
                found += names
            self._homes = homes
            # The next time, which is after a failure, others are asked first: this one may be cut off from them.
            self._hosts = [*({*self._address.hosts, *found} - {host}), host]
            return
        # Whatever a node has answered, it is no fault of the command that was to be sent.
        message = f"no node says where the slots are: {explain(refusal) if refusal else 'the address names none'}"
        raise RedisConnectionError(message) from refusal

    def _link(self, host: Host) -> Link:
        if host not in self._links:
            node = replace(self._address, hosts=(host,), is_cluster=False)
            self._links[host] = Link(node, self._given_s)
        return self._links[host]


class _HeldConnection(Connection):
    """A connection to one node, which follows redirections over others."""

    def __init__(self, connection: Connection, link: ClusterLink, host: Host) -> None:
        self._held = connection
        self._all = link
        self._host = host

    @property
    def server(self) -> str:
        """Unknown: a redirected command is executed by another node."""
        return UNKNOWN

    @property
    def is_owed(self) -> bool:
        """True while replies of the node are still to come."""
        return self._held.is_owed

    async def send(self, commands: Sequence[Command]) -> None:
        """Send several commands to this node."""
        await self._held.send(commands)

    async def receive(self, commands: Sequence[Command]) -> list[Any]:
        """Wait for the replies, and send again what is redirected."""
        replies = await self._held.receive(commands)
        self.left = self.left or any(isinstance(reply, MovedError) for reply in replies)
        return await self._all.followed(self._host, commands, replies)
