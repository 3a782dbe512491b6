"""Fetches messages from Redis in batches, recording each one as unacknowledged in the same atomic step."""

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
from legit_embedding.errors import in_one_line
from legit_embedding.redis_io.connection import Backoff, explain

if TYPE_CHECKING:
    from kombu.message import Message
    from kombu.transport.redis import Channel

    from legit_embedding.broker.malformed import MalformedMessages
    from legit_embedding.broker.ordinary import OrdinaryMessages
    from legit_embedding.redis_io.health import Outage

log = logging.getLogger(__name__)

SCRIPT = files(__package__).joinpath("fetch.lua").read_text(encoding="utf-8")
MOST = 64
"""The largest number of messages fetched in one round trip."""
BYTES = 1 << 20
"""Size in bytes after which one round trip fetches no further messages."""
LONGEST_PAUSE_S = 1.0
"""The longest pause after the server has refused the script, in seconds."""
BLOCK_S = 0.1
"""How long to block on one list before checking all of them, in seconds."""


class MessageFetcher:
    """Replaces the way one of kombu's Redis channels fetches messages.

    kombu pops a message with BRPOP and records it as unacknowledged with a second command: if the process is killed or
    the connection breaks in between, the message is lost. Here a script does both, for as many messages as the prefetch
    count allows. A script cannot block, so an empty queue is waited for with a BLMOVE from the list's end to the same
    end, which changes nothing. That waits on one list only, so all lists are checked every `BLOCK_S`.

    If the server refuses the script (out of memory, read-only, too few replicas), it is retried later: the worker keeps
    running, and `outage` reports why no messages are fetched.

    Args:
        channel: the channel of a worker's task consumer, before it has fetched anything.
        ordinary: the limit on messages of ordinary tasks.
        malformed: handles items that are not valid messages.
        outage: notified of refusals by the server, and of their end.
        backoff: how long to wait after a refusal.
    """

    def __init__(
        self,
        channel: Channel,
        ordinary: OrdinaryMessages,
        malformed: MalformedMessages,
        outage: Outage,
        backoff: Backoff | None = None,
    ) -> None:
        self._channel = channel
        self._ordinary = ordinary
        self._malformed = malformed
        self._outage = outage
        self._backoff = backoff or Backoff(cap_s=LONGEST_PAUSE_S)
        outage.over()  # this connection has not been refused anything
        self._refused = 0
        self._refused_messages = False
        self._not_before = 0.0
        self._lists: list[tuple[str, str]] = []
        """The lists of the last request, each with its queue: a queue's name may contain the separator too."""
        self._look = True
        self._asked_for_messages = False
        self._noted: set[str] = set()
        self._to_drop: list[str] = []
        # Celery's own steps change a channel's quality of service in the same way.
        vars(channel).update(_brpop_start=self._ask, _brpop_read=self._read)
        channel.handlers["BRPOP"] = self._read
        vars(channel.qos)["append"] = MethodType(self._append, channel.qos)

    def _ask(self, timeout: float | None = None) -> None:  # noqa: ARG002 - kombu's signature
        """Send a request; called on each turn of the event loop if a message fits and no request is open."""
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
        """Read the reply to the request.

        Raises:
            Empty: there were no messages.
        """
        channel = self._channel
        try:
            answer = channel.client.parse_response(channel.client.connection, "EVAL", **options)
        except channel.connection_errors:
            channel.client.connection.disconnect()
            raise
        except channel.ResponseError as error:
            if isinstance(error, ReadOnlyError):
                # A failover has made this server a replica: the next request goes where its name resolves to by then.
                channel.client.connection.disconnect()
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
                # A BLMOVE would return at once, because the list is not empty.
                self._look, self._not_before = True, time.monotonic() + BLOCK_S
            raise Empty
        self._look = True  # a list that held messages may hold more
        self._deliver([(int(number), item) for number, item in zip(*[iter(taken)] * 2, strict=True)])
        return True

    def _answered(self) -> None:
        """Clear the outage if the request that was refused is now served; a reply to the other one proves nothing."""
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
        # All of them are recorded before the first is delivered or dropped, which may fail.
        dropped, self._to_drop = self._to_drop, []
        for tag in dropped:
            self._drop(tag)
        for message, queue, item in filter(None, opened):
            self._hand_on(message, queue, item)

    def _open(self, number: int, item: bytes | str) -> tuple[dict[str, Any], str, bytes | str] | None:
        """Parse a message and record it as unacknowledged; None if it is not a message."""
        queue = self._lists[abs(number) - 1][1]
        is_noted = number > 0
        try:
            message = parse_envelope(item)
        except MalformedError as error:
            is_kept = self._malformed.refuse_item(queue, item, error)
            # An item that could not be kept stays recorded, and returns after the visibility timeout.
            if is_noted and is_kept:
                self._to_drop.append(tag_of(item))
            return None
        if not is_noted:
            # The server's JSON parser is the stricter one.
            reason = MalformedError("it is nested too deep, or holds what Redis cannot read")
            self._malformed.refuse_item(queue, item, reason)
            return None
        tag = message["properties"]["delivery_tag"]
        virtual.QoS.append(self._channel.qos, None, tag)
        self._noted.add(tag)
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
            # Whatever else is wrong with it, it must not return to the next worker.
            log.exception("kombu could not take a message")
            if self._malformed.refuse_item(queue, item, MalformedError(in_one_line(error))):
                self._drop(message["properties"]["delivery_tag"])

    def _drop(self, tag: str) -> None:
        """Remove the record of a message that was delivered to no consumer."""
        self._noted.discard(tag)
        try:
            self._channel.qos._remove_from_indices(tag).execute()  # noqa: SLF001 - kombu's own way of settling
        except self._channel.ResponseError as error:
            log.warning("a malformed message comes again after the visibility timeout: %s", explain(error))
        self._channel.qos._delivered.pop(tag, None)  # noqa: SLF001

    def _append(self, qos: virtual.QoS, message: Message, delivery_tag: str) -> None:
        """Record an unacknowledged message in kombu; Redis has recorded it already."""
        if delivery_tag in self._noted:
            self._noted.discard(delivery_tag)
            virtual.QoS.append(qos, message, delivery_tag)
        else:
            type(qos).append(qos, message, delivery_tag)

    def _key(self, name: str) -> str:
        return f"{self._channel.global_keyprefix}{name}"
