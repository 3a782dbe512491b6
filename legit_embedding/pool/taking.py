"""Takes messages from Redis many at a time, and none of them halfway."""

from __future__ import annotations

import logging
import time
from importlib.resources import files
from queue import Empty
from types import MethodType
from typing import TYPE_CHECKING, Any

from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

if TYPE_CHECKING:
    from kombu.message import Message
    from kombu.transport.redis import Channel

log = logging.getLogger(__name__)

SCRIPT = files(__package__).joinpath("take.lua").read_text(encoding="utf-8")
MOST = 64
"""How many messages one round trip takes at most."""
BYTES = 1 << 20
"""After how many bytes one round trip stops to take more."""
BLOCK_S = 0.1
"""How long to wait for a message on one list before looking at all of them."""


class Taking:
    """Replaces how one of kombu's Redis channels takes messages.

    kombu takes a message off its list with BRPOP and notes it as unacknowledged with a second command: a process that
    is killed in between, or a connection that breaks, loses the message. Here a script does both, for as many messages
    as the prefetch count allows. It cannot wait, so an empty queue is waited for with a BLMOVE from the list's end to
    the same end, which changes nothing; it waits on one list only, so every `BLOCK_S` all of them are looked at.

    Args:
        channel: the channel of a worker's task consumer, from before it has taken anything.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lists: list[str] = []
        self._look = True
        self._asked_for_messages = False
        self._noted: set[str] = set()
        # Celery's own steps change a channel's quality of service in the same way.
        vars(channel).update(_brpop_start=self._ask, _brpop_read=self._read)
        channel.handlers["BRPOP"] = self._read
        vars(channel.qos)["append"] = MethodType(self._append, channel.qos)

    def _ask(self, timeout: float | None = None) -> None:  # noqa: ARG002 - kombu's signature
        """Called for each turn of the event loop with room for a message and no question open."""
        channel = self._channel
        queues = channel._queue_cycle.consume(len(channel.active_queues))  # noqa: SLF001 - kombu has no other hook
        if not queues:
            return
        room = channel.qos.can_consume_max_estimate()
        most = MOST if room is None else min(room, MOST)
        self._lists = [channel._q_for_pri(queue, step) for step in channel.priority_steps for queue in queues]  # noqa: SLF001
        connection = channel.client.connection
        vars(channel).update(_in_poll=connection, _brpop_sent_at=time.monotonic())
        self._asked_for_messages, self._look = self._look, not self._look
        if self._asked_for_messages:
            keys = [self._key(name) for name in (channel.unacked_key, channel.unacked_index_key, *self._lists)]
            connection.send_command("EVAL", SCRIPT, len(keys), *keys, time.time(), most, BYTES)
        else:
            key = self._key(self._lists[0])
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
        finally:
            vars(channel)["_in_poll"] = None
            channel._flush_brpop_reauth()  # noqa: SLF001
        if not self._asked_for_messages or not answer:
            raise Empty
        self._look = True  # where there were some, there may be more
        self._deliver([(self._lists[int(number) - 1], item) for number, item in zip(*[iter(answer)] * 2, strict=True)])
        return True

    def _deliver(self, taken: list[tuple[str, bytes | str]]) -> None:
        channel = self._channel
        messages = []
        for key, item in taken:
            queue = key.rsplit(channel.sep, 1)[0]
            try:
                message = loads(bytes_to_str(item))
                tag = message["properties"]["delivery_tag"]
            except (ValueError, KeyError, TypeError):
                log.error("what was in %r is not a message, and was taken out: %.200r", queue, item)  # noqa: TRY400
                continue
            # All of them are on record before the first is handed on, which may fail.
            virtual.QoS.append(channel.qos, None, tag)
            self._noted.add(tag)
            messages.append((message, queue))
        for message, queue in messages:
            channel._queue_cycle.rotate(queue)  # noqa: SLF001
            channel.connection._deliver(message, queue)  # noqa: SLF001

    def _append(self, qos: virtual.QoS, message: Message, delivery_tag: str) -> None:
        """Kombu's note of a message that is unacknowledged; Redis has it already."""
        if delivery_tag in self._noted:
            self._noted.discard(delivery_tag)
            virtual.QoS.append(qos, message, delivery_tag)
        else:
            type(qos).append(qos, message, delivery_tag)

    def _key(self, name: str) -> str:
        return f"{self._channel.global_keyprefix}{name}"
