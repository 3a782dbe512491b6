"""Connection to the configured Redis server."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from legit_embedding.redis_io.client import make_client

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from legit_embedding.config import Settings

TIMEOUT_S = 10.0
BLOCK_MS = 1000
"""Duration of a blocking read, well below the timeout."""


@contextmanager
def connected(settings: Settings) -> Iterator[redis.Redis]:
    """Open a client that has reached the server once.

    Raises:
        RedisError: the server is unavailable or refuses the connection.
    """
    with client(settings) as reached:
        reached.ping()
        yield reached


def client(settings: Settings) -> redis.Redis:
    """Create a client without connecting. It retries nothing on its own."""
    return make_client(settings.redis, TIMEOUT_S, least_timeout_s=2 * BLOCK_MS / 1000)
