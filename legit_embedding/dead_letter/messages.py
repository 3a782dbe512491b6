"""Broker messages that no task can be made of, kept in the dead letter."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

from legit_embedding.redis_io.client import make_client

if TYPE_CHECKING:
    import redis

    from legit_embedding.redis_io.address import RedisAddress

MALFORMED = "malformed_message"
"""The ``dead_reason`` of a message that cannot be a task."""

LONGEST = 1 << 20
"""How much of such a message is kept, in characters."""
TIMEOUT_S = 5.0


class DeadMessages:
    """Adds messages to the dead letter stream.

    Args:
        address: the server with the streams.
        stream: the dead letter's key.
    """

    def __init__(self, address: RedisAddress, stream: str) -> None:
        self._address = address
        self._stream = stream

    def keep(self, queue: str, message: str, why: str, tag: str) -> None:
        """Add one message, as it lay in the broker.

        Args:
            queue: where it was.
            message: its text.
            why: what does not fit.
            tag: the broker's tag of it, where it had one.

        Raises:
            RedisError: it is not kept, or the outcome is unknown.
        """
        fields: dict[str, str | int] = {
            "message": message[:LONGEST],
            "dead_reason": MALFORMED,
            "dead_detail": why,
            "deliveries": 1,
            "original_stream": queue,
            "original_id": tag,
            "dead_at": int(time.time() * 1000),
        }
        self._client.xadd(self._stream, {name: _wire(value) for name, value in fields.items()})

    @cached_property
    def _client(self) -> redis.Redis:
        return make_client(self._address, TIMEOUT_S)


def _wire(value: str | int) -> bytes:
    # Half a surrogate pair can stand in JSON, but in no UTF-8.
    return str(value).encode("utf-8", "backslashreplace")
