"""Broker messages that cannot be tasks, kept in the dead letter."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

from legit_embedding.redis_io.client import make_client
from legit_embedding.redis_io.server_id import UNKNOWN, greet, server_of

if TYPE_CHECKING:
    import redis
    from redis.connection import AbstractConnection

    from legit_embedding.redis_io.address import RedisAddress

MALFORMED = "malformed_message"
"""The ``dead_reason`` of a message that cannot be a task."""

LONGEST = 1 << 20
"""The length at which a kept message is truncated, in characters."""
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
        self._server = UNKNOWN

    def keep(self, queue: str, message: str, why: str, tag: str) -> str:
        """Add one message, as it was in the broker.

        Args:
            queue: the queue it was in.
            message: its text.
            why: the reason it cannot be a task.
            tag: the broker's tag, or an empty string.

        Returns:
            The id of the server that keeps it, if that is known.

        Raises:
            RedisError: the message is not kept, or the outcome is unknown.
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
        return self._server

    @cached_property
    def _client(self) -> redis.Redis:
        return make_client(self._address, TIMEOUT_S, on_connect=self._connected)

    def _connected(self, connection: AbstractConnection) -> None:
        # One thread uses the client, and so one connection at a time.
        greet(connection)
        self._server = server_of(connection)


def _wire(value: str | int) -> bytes:
    # JSON may contain an unpaired surrogate, which UTF-8 cannot encode.
    return str(value).encode("utf-8", "backslashreplace")
