"""Settling messages at the broker, each only where its answer is known."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from legit_embedding.redis_io.server_id import UNKNOWN, identify
from legit_embedding.wire.result import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kombu.message import Message
    from kombu.transport.redis import Channel
    from redis.connection import AbstractConnection

MOVING_S = 120.0
"""The time after the broker's move to another server for which an answer at the earlier one does not count, and for
which a message is remembered as settled, in seconds. Sentinel makes a replica of a former master within some ten
seconds; Celery gives up storing a result after twenty."""

MOST_REMEMBERED = 16_384
"""The most settled messages that are remembered."""

TOGETHER_S = 1.0
"""Messages settled within this time are forgotten together, in seconds."""

_ANSWERED_AT = "answered_at"
_END = b"\0"


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

    Args:
        moved: called when the broker's connections have come to lead to another server.
    """

    def __init__(self, moved: Callable[[], None]) -> None:
        self._moved = moved
        self._server = UNKNOWN
        """The server to which the broker's connections led last."""
        self._left: dict[str, float] = {}
        """The servers to which they led before, and when that was over."""
        self._settled = Recent(MOVING_S, MOST_REMEMBERED)
        self._forgotten: set[str] = set()
        """The tags of messages of which the server does not know that they are settled."""

    def begin(self, channel: Channel) -> int:
        """Learn to which server the broker's connections lead; called for each new channel.

        Returns:
            The number of messages that are put back.

        Raises:
            RedisError: the broker is unavailable, or refuses.
        """
        with _acquired(channel) as connection:
            self._look(channel, connection)
        return self._put_back(channel, set())

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
            elsewhere = self._settle(channel, finished)
        except channel.connection_errors:
            # An idle connection may have been lost long ago.
            channel.pool.disconnect(inuse_connections=False)
            elsewhere = self._settle(channel, finished)
        return self._put_back(channel, elsewhere)

    def _settle(self, channel: Channel, done: Sequence[Done]) -> set[str]:
        """Settle over one session of one connection; returns the tags of those with answers elsewhere."""
        with _acquired(channel) as connection:
            self._look(channel, connection)
            elsewhere = self._elsewhere(done)
            if elsewhere:
                # It may be this connection that leads to the earlier server.
                channel.pool.disconnect(inuse_connections=False)
                connection.disconnect()
                connection.connect()
                self._look(channel, connection)
                elsewhere = self._elsewhere(done)
            tags = [each.tag for each in done if each.tag not in elsewhere]
            if tags:
                removals = (
                    ("ZREM", _key(channel, channel.unacked_index_key)),
                    ("HDEL", _key(channel, channel.unacked_key)),
                )
                _send(connection, ("MULTI",), *((*removal, *tags) for removal in removals), ("EXEC",))
        if answered := [each.tag for each in done if each.servers and each.tag not in elsewhere]:
            self._settled.add(answered)
        return elsewhere

    def _elsewhere(self, done: Sequence[Done]) -> set[str]:
        until = time.monotonic() - MOVING_S
        left = {server for server, at in self._left.items() if at > until}
        return {each.tag for each in done if each.servers & left} if left else set()

    def _look(self, channel: Channel, connection: AbstractConnection) -> None:
        """Look to which server a connection leads, and what a new one has not heard of."""
        server = identify(connection)
        if server in {UNKNOWN, self._server}:
            return
        if server not in self._left and (tags := self._settled.all()):
            unacked = _key(channel, channel.unacked_key)
            are_held = _send(connection, *(("HEXISTS", unacked, tag) for tag in tags))
            self._forgotten.update(tag for tag, is_held in zip(tags, are_held, strict=True) if is_held)
        before, self._server = self._server, server
        self._left.pop(server, None)
        if before != UNKNOWN:
            self._left[before] = time.monotonic()
            self._moved()

    def _put_back(self, channel: Channel, elsewhere: set[str]) -> int:
        tags = self._forgotten | elsewhere
        for tag in tags:
            channel.qos.restore_by_tag(tag)  # has no effect where no worker has it
        self._forgotten.clear()
        return len(tags)


class Recent:
    """Delivery tags of the last while, in 37 bytes each.

    Args:
        seconds: for how long they are remembered.
        most: how many of them are remembered; more are kept if they come within `TOGETHER_S`.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._texts: deque[tuple[float, bytearray]] = deque()
        """The tags of a second each, with when it began; every tag ends with `_END`."""
        self._counts: deque[int] = deque()

    def add(self, tags: Sequence[str]) -> None:
        """Remember these, and forget the oldest."""
        now = time.monotonic()
        if not self._texts or now - self._texts[-1][0] >= TOGETHER_S:
            self._texts.append((now, bytearray()))
            self._counts.append(0)
        self._texts[-1][1].extend(b"".join(tag.encode("utf-8", "surrogatepass") + _END for tag in tags))
        self._counts[-1] += len(tags)
        while len(self._texts) > 1 and (sum(self._counts) > self._most or self._texts[0][0] < now - self._seconds):
            self._texts.popleft()
            self._counts.popleft()

    def all(self) -> list[str]:
        """Return them, the oldest first."""
        texts = (bytes(text).decode("utf-8", "surrogatepass") for _, text in self._texts)
        return [tag for text in texts for tag in text.split(_END.decode())[:-1]]


@contextmanager
def _acquired(channel: Channel) -> Iterator[Any]:
    pool = channel.pool
    connection = pool.get_connection()
    try:
        yield connection
    finally:
        pool.release(connection)


def _send(connection: AbstractConnection, *commands: tuple[str, ...]) -> list[Any]:
    """Send commands over this very session: what connects anew, as a health check may, may lead to another server.

    Raises:
        RedisError: the connection is lost, or one of them is refused.
    """
    connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies = [_reply(connection) for _ in commands]
    for reply in replies:
        for each in reply if isinstance(reply, list) else [reply]:  # of what EXEC has executed
            if isinstance(each, ResponseError):
                raise each
    return replies


def _reply(connection: AbstractConnection) -> Any:  # noqa: ANN401 - a reply is what the command makes it
    try:
        return connection.read_response()
    except ResponseError as refusal:
        return refusal


def _key(channel: Channel, name: str) -> str:
    return f"{channel.global_keyprefix}{name}"
