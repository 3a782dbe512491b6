"""A connection to the Redis server of the settings."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from legit_embedding.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from legit_embedding.config import Settings

TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
BLOCK_MS = 1000
"""How long a blocking read waits: well below the timeout."""


@contextmanager
def connected(settings: Settings) -> Iterator[redis.Redis]:
    """A client that has reached the server once.

    Raises:
        ConfigError: ``redis_url`` is no address.
        RedisError: the server is away or refuses us.
    """
    with client(settings.redis_url) as reached:
        reached.ping()
        yield reached


def client(url: str) -> redis.Redis:
    """A client that has not connected yet; its replies are bytes.

    Nothing is tried again behind the caller's back: a repeated XADD would be a second task.

    Raises:
        ConfigError: it is no address. What it holds is not repeated: it may be a password.
    """
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    try:
        _refuse_unescaped(url)
        made = redis.Redis.from_url(url, **options)
        made.connection_pool.connection_kwargs["decode_responses"] = False
        made.connection_pool.make_connection()
    except (TypeError, ValueError):
        message = (
            "redis_url: not an address like redis://user:password@host:6379/0 "
            "(in a password write / ? # @ as %2F %3F %23 %40)"
        )
        raise ConfigError(message) from None
    return made


def address(server: redis.Redis) -> str:
    """The server's address without user and password: fit for a terminal."""
    options = server.connection_pool.connection_kwargs
    if "path" in options:
        return f"unix://{options['path']}"
    scheme = "rediss" if issubclass(server.connection_pool.connection_class, redis.SSLConnection) else "redis"
    return f"{scheme}://{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db', 0)}"


def _refuse_unescaped(url: str) -> None:
    """A password's bare ``/``, ``?`` or ``#`` ends the host too early, and would show up in an error as a host."""
    parts = urlsplit(url)
    if parts.scheme in {"redis", "rediss"} and any("@" in part for part in (parts.path, parts.query, parts.fragment)):
        raise ValueError
