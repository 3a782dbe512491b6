"""Settling messages at the broker, each only where its answer is known."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from kombu.utils.encoding import bytes_to_str

from legit_embedding.redis_io.server_id import UNKNOWN, identify
from legit_embedding.wire.result import Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kombu.message import Message
    from kombu.transport.redis import Channel
    from redis.connection import AbstractConnection

SETTLE, UNSETTLED = (
    files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("settle.lua", "unsettled.lua")
)

MOVING_S = 120.0
"""How long after the broker's move to another server an answer at the earlier one does not count, in seconds. Sentinel
makes a replica of a former master within some ten seconds; Celery gives up storing a result after twenty. A message is
remembered as settled for as long."""

MOST_REMEMBERED = 16_384
"""How many settled messages are remembered for that long."""

_ANSWERED_AT = "answered_at"


def note_answers(message: Message, outcomes: Iterable[object]) -> None:
    """Note which servers have confirmed the answers among these outcomes of a message's tasks."""
    for outcome in outcomes:
        if isinstance(outcome, Written):
            note_server(message, outcome.server)


def note_server(message: Message, server: str) -> None:
    """Note that a server has an answer to a message, or keeps the message itself."""
    vars(message)[_ANSWERED_AT] = servers_of(message) | known(server)


def servers_of(message: Message) -> frozenset[str]:
    """The servers that have answers to a message, as far as is known."""
    found: frozenset[str] = vars(message).get(_ANSWERED_AT, frozenset())
    return found


def known(server: str) -> frozenset[str]:
    """This server; none if it is unknown."""
    return frozenset((server,) if server != UNKNOWN else ())


@dataclass(frozen=True, slots=True)
class Done:
    """A message to be settled."""

    tag: str
    servers: frozenset[str] = frozenset()
    """Those that have its answers; empty if that is unknown, or if it has none."""
    requeue: bool = False


class Settlement:
    """Settles messages, or puts them back where their answers are unknown.

    In a failover two servers may take writes for a while, and connections to both may stand. What only the earlier one
    has heard is forgotten with it. Two kinds of messages are therefore put back at the later one: those with an answer
    at the earlier one, which would be lost if they were settled here; and those settled at the earlier one of which
    the later one does not know it, which would come back after the visibility timeout only. If the later one has the
    answer after all, its record keeps it from being given twice.
    """

    def __init__(self) -> None:
        self._server = UNKNOWN
        """The server to which the broker's connections led last."""
        self._left: dict[str, float] = {}
        """The servers to which they led before, and when that was over."""
        self._settled = Recent(MOVING_S, MOST_REMEMBERED)

    def begin(self, channel: Channel) -> int:
        """Learn to which server the broker's connections lead; called for each new channel.

        Returns:
            The number of messages that are put back.

        Raises:
            RedisError: the broker is unavailable, or refuses.
        """
        with _acquired(channel) as connection:
            tags = self._forgotten(channel, connection)
        return _put_back(channel, tags)

    def settle(self, channel: Channel, done: Sequence[Done]) -> int:
        """Settle these messages; doing it twice has no further effect.

        Returns:
            The number of messages that are put back instead, or besides.

        Raises:
            RedisError: the broker is unavailable, or refuses; which messages are settled is unknown.
        """
        for each in done:
            if each.requeue:
                channel.qos.restore_by_tag(each.tag, leftmost=True)
        finished = [each for each in done if not each.requeue]
        if not finished:
            return 0
        try:
            tags = self._settle(channel, finished)
        except channel.connection_errors:
            # An idle connection may have been lost long ago.
            channel.pool.disconnect(inuse_connections=False)
            tags = self._settle(channel, finished)
        return _put_back(channel, tags)

    def _settle(self, channel: Channel, done: Sequence[Done]) -> list[str]:
        """Settle over one session of one connection; returns the tags of what must be put back."""
        with _acquired(channel) as connection:
            forgotten = self._forgotten(channel, connection)
            elsewhere = self._elsewhere(done)
            if elsewhere:
                # It may be this connection that leads to the earlier server.
                channel.pool.disconnect(inuse_connections=False)
                connection.disconnect()
                connection.connect()
                forgotten += self._forgotten(channel, connection)
                elsewhere = self._elsewhere(done)
            tags = [each.tag for each in done if each.tag not in elsewhere]
            if tags:
                _run(connection, SETTLE, _keys(channel, channel.unacked_index_key, channel.unacked_key), tags)
        self._settled.add([each.tag for each in done if each.servers and each.tag not in elsewhere])
        return [*forgotten, *elsewhere]

    def _elsewhere(self, done: Sequence[Done]) -> set[str]:
        until = time.monotonic() - MOVING_S
        left = {server for server, at in self._left.items() if at > until}
        return {each.tag for each in done if each.servers & left} if left else set()

    def _forgotten(self, channel: Channel, connection: AbstractConnection) -> list[str]:
        """The tags of messages that were settled, and of which the server of a connection does not know it."""
        server = identify(connection)
        if server in {UNKNOWN, self._server}:
            return []
        is_new = server not in self._left
        if self._server != UNKNOWN:
            self._left[self._server] = time.monotonic()
        self._left.pop(server, None)
        self._server = server
        tags = self._settled.take() if is_new else []
        if not tags:
            return []
        found = _run(connection, UNSETTLED, _keys(channel, channel.unacked_key), tags)
        return [bytes_to_str(tag) for tag in found]


class Recent:
    """Delivery tags of the last while.

    Args:
        seconds: for how long they are remembered.
        most: how many of them are remembered.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._tags: deque[tuple[float, list[str]]] = deque()
        self._count = 0

    def add(self, tags: list[str]) -> None:
        """Remember these, and forget the oldest."""
        now = time.monotonic()
        if tags:
            self._tags.append((now, tags))
            self._count += len(tags)
        while self._tags and (self._count > self._most or self._tags[0][0] < now - self._seconds):
            self._count -= len(self._tags.popleft()[1])

    def take(self) -> list[str]:
        """Return them all, and forget them."""
        tags = [tag for _, together in self._tags for tag in together]
        self._tags.clear()
        self._count = 0
        return tags


@contextmanager
def _acquired(channel: Channel) -> Iterator[Any]:
    pool = channel.pool
    connection = pool.get_connection()
    try:
        yield connection
    finally:
        pool.release(connection)


def _run(connection: AbstractConnection, script: str, keys: Sequence[str], arguments: Sequence[str]) -> Any:  # noqa: ANN401
    """Run a script over this very session: what connects anew, as a health check may, may lead to another server."""
    connection.send_command("EVAL", script, len(keys), *keys, *arguments, check_health=False)
    return connection.read_response()


def _keys(channel: Channel, *names: str) -> list[str]:
    return [f"{channel.global_keyprefix}{name}" for name in names]


def _put_back(channel: Channel, tags: Sequence[str]) -> int:
    for tag in tags:
        channel.qos.restore_by_tag(tag)  # has no effect where no worker has it
    return len(tags)
