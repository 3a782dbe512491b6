"""Takes messages from Redis many at a time, and none of them halfway."""

from __future__ import annotations

import logging
import time
from importlib.resources import files
from queue import Empty
from types import MethodType
from typing import TYPE_CHECKING, Any

from kombu.transport import virtual
from redis.exceptions import ReadOnlyError

from legit_embedding.broker.envelope import MalformedError, parse_envelope, tag_of
from legit_embedding.broker.settlement import Done, known
from legit_embedding.errors import in_one_line
from legit_embedding.redis_io.connection import Backoff, explain

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.message import Message
    from kombu.transport.redis import Channel

    from legit_embedding.broker.malformed import MalformedMessages
    from legit_embedding.broker.ordinary import OrdinaryMessages
    from legit_embedding.redis_io.health import Outage

log = logging.getLogger(__name__)

SCRIPT = files(__package__).joinpath("fetch.lua").read_text(encoding="utf-8")
MOST = 64
"""The most messages that one round trip takes."""
BYTES = 1 << 20
"""After how many bytes one round trip stops to take more."""
LONGEST_PAUSE_S = 1.0
"""The longest time to leave a server alone that refuses."""
BLOCK_S = 0.1
"""The time to wait for a message on one list before looking at all of them."""


class MessageFetcher:
    """Replaces how one of kombu's Redis channels takes messages.

    kombu takes a message off its list with BRPOP and notes it as unacknowledged with a second command: a process that
    is killed in between, or a connection that breaks, loses the message. Here a script does both, for as many messages
    as the prefetch count allows. It cannot wait, so an empty queue is waited for with a BLMOVE from the list's end to
    the same end, which changes nothing; it waits on one list only, so every `BLOCK_S` all of them are looked at.

    A server that refuses the script (out of memory, read-only, without its replicas) is asked again later: the worker
    lives on, and `outage` says why nothing is taken.

    Args:
        channel: the channel of a worker's task consumer, from before it has taken anything.
        ordinary: how many messages of ordinary tasks may be taken.
        malformed: takes what is not a message.
        outage: told of refusals by the server, and of their end.
        settle: settles a message that nobody is given.
        backoff: how long to wait after a refusal.
    """

    def __init__(
        self,
        channel: Channel,
        ordinary: OrdinaryMessages,
        malformed: MalformedMessages,
        outage: Outage,
        settle: Callable[[Done], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._channel = channel
        self._ordinary = ordinary
        self._malformed = malformed
        self._outage = outage
        self._settle = settle
        self._backoff = backoff or Backoff(cap_s=LONGEST_PAUSE_S)
        outage.over()  # this connection has not been refused anything
        self._refused = 0
        self._refused_messages = False
        self._not_before = 0.0
        self._lists: list[tuple[str, str]] = []
        """The lists of the last question, each with its queue: a name may hold the separator too."""
        self._look = True
        self._asked_for_messages = False
        self._noted: set[str] = set()
        self._to_drop: list[Done] = []
        # Celery's own steps change a channel's quality of service in the same way.
        vars(channel).update(_brpop_start=self._ask, _brpop_read=self._read)
        channel.handlers["BRPOP"] = self._read
        vars(channel.qos)["append"] = MethodType(self._append, channel.qos)

    def _ask(self, timeout: float | None = None) -> None:  # noqa: ARG002 - kombu's signature
        """Called for each turn of the event loop with room for a message and no question open."""
        now = time.monotonic()
        if now < self._not_before:
            return
        channel = self._channel
        queues = channel._queue_cycle.consume(len(channel.active_queues))  # noqa: SLF001 - kombu has no other hook
        if not queues:
            return
        room = channel.qos.can_consume_max_estimate()
        most = MOST if room is None else min(room, MOST)
        self._lists = [
            (channel._q_for_pri(queue, step), queue)  # noqa: SLF001
            for step in channel.priority_steps
            for queue in queues
        ]
        connection = channel.client.connection
        vars(channel).update(_in_poll=connection, _brpop_sent_at=now)
        self._asked_for_messages, self._look = self._look, not self._look
        if self._asked_for_messages:
            names = [channel.unacked_key, channel.unacked_index_key, *(name for name, _ in self._lists)]
            keys = [self._key(name) for name in names]
            limits = (time.time(), most, BYTES, self._ordinary.room(channel.qos))
            connection.send_command("EVAL", SCRIPT, len(keys), *keys, *limits, *self._ordinary.others)
        else:
            key = self._key(self._lists[0][0])
            connection.send_command("BLMOVE", key, key, "RIGHT", "RIGHT", BLOCK_S)

    def _read(self, **options: Any) -> bool:  # noqa: ANN401 - kombu's signature
        """Called when the answer is there.

        Raises:
            Empty: nothing was waiting.
        """
        channel = self._channel
        try:
            answer = channel.client.parse_response(channel.client.connection, "EVAL", **options)
        except channel.connection_errors:
            channel.client.connection.disconnect()
            raise
        except channel.ResponseError as error:
            if isinstance(error, ReadOnlyError):
                # A failover has made a replica of this server: the next question goes to where its name leads by then,
                # and so does what kombu sends over other connections.
                channel.client.connection.disconnect()
                channel.pool.disconnect(inuse_connections=False)
            self._pause(error)
            raise Empty from None
        finally:
            vars(channel)["_in_poll"] = None
            channel._flush_brpop_reauth()  # noqa: SLF001
        self._answered()
        if not self._asked_for_messages:
            raise Empty
        left, taken = answer
        if not taken:
            if left:
                # A BLMOVE would not wait, for the list is not empty.
                self._look, self._not_before = True, time.monotonic() + BLOCK_S
            raise Empty
        self._look = True  # where there were some, there may be more
        self._deliver([(int(number), item) for number, item in zip(*[iter(taken)] * 2, strict=True)])
        return True

    def _answered(self) -> None:
        """The last question was no refused one; only the same question shows that the server has come to allow it."""
        if self._refused and self._asked_for_messages == self._refused_messages:
            self._refused = 0
            self._outage.over()

    def _pause(self, error: Exception) -> None:
        self._refused += 1
        self._refused_messages = self._asked_for_messages
        self._look = True
        self._not_before = time.monotonic() + self._backoff.delay(self._refused)
        self._outage.failed(explain(error))

    def _deliver(self, taken: list[tuple[int, bytes | str]]) -> None:
        opened = [self._open(number, item) for number, item in taken]
        # All of them are on record before the first is handed on or dropped, which may fail.
        dropped, self._to_drop = self._to_drop, []
        for done in dropped:
            self._drop(done)
        for message, queue, item in filter(None, opened):
            self._hand_on(message, queue, item)

    def _open(self, number: int, item: bytes | str) -> tuple[dict[str, Any], str, bytes | str] | None:
        """Read a message and put it on record; None where it is none."""
        queue = self._lists[abs(number) - 1][1]
        is_noted = number > 0
        try:
            message = parse_envelope(item)
        except MalformedError as error:
            server = self._malformed.refuse_item(queue, item, error)
            # What could not be kept stays on record, and comes again after the visibility timeout.
            if is_noted and server is not None:
                self._to_drop.append(Done(tag_of(item), known(server)))
            return None
        tag = message["properties"]["delivery_tag"]
        if is_noted:
            virtual.QoS.append(self._channel.qos, None, tag)
            self._noted.add(tag)
        # Otherwise Redis's reader of JSON is the stricter one (half a surrogate pair, say), and kombu makes the note.
        self._ordinary.took(message, tag)
        return message, queue, item

    def _hand_on(self, message: dict[str, Any], queue: str, item: bytes | str) -> None:
        channel = self._channel
        channel._queue_cycle.rotate(queue)  # noqa: SLF001
        try:
            channel.connection._deliver(message, queue)  # noqa: SLF001
        except (*channel.connection_errors, channel.ResponseError):
            raise
        except Exception as error:
            # Whatever else is odd about it, it must not come back to the next worker.
            log.exception("kombu could not take a message")
            server = self._malformed.refuse_item(queue, item, MalformedError(in_one_line(error)))
            if server is not None:
                self._drop(Done(message["properties"]["delivery_tag"], known(server)))

    def _drop(self, done: Done) -> None:
        """Forget a message that nobody was given."""
        self._noted.discard(done.tag)
        self._settle(done)

    def _append(self, qos: virtual.QoS, message: Message, delivery_tag: str) -> None:
        """Kombu's note of a message that is unacknowledged; Redis has it already."""
        if delivery_tag in self._noted:
            self._noted.discard(delivery_tag)
            virtual.QoS.append(qos, message, delivery_tag)
        else:
            type(qos).append(qos, message, delivery_tag)

    def _key(self, name: str) -> str:
        return f"{self._channel.global_keyprefix}{name}"
