"""Lock that lets only one live process use an identity.

At startup a process writes its own token under its identity, unless there already is one, and renews the token for as
long as it lives. The token expires by itself, so a killed process blocks its identity for at most `EXPIRE_S`; a process
that exits cleanly deletes its token. A process that finds a foreign token watches it: if it gets renewed, its owner is
alive.
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING

from legit_embedding.telemetry import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

logger = logging.getLogger(__name__)

EXPIRE_S = 6.0
RENEW_S = 1.5
_LOOK_S = 0.25

# Renews or reclaims in one step: after an outage the token may have expired, or another process may hold it.
_RENEW = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class IdentityTakenError(Exception):
    """Another live process holds this identity."""

    def __init__(self, identity: str) -> None:
        super().__init__(
            f"another process that is alive has the identity {identity!r}: give each worker a name of its own "
            "with -n or LEGIT_WORKER_ID"
        )


class IdentityLock:
    """This process's claim to its identity.

    Args:
        client: the Redis client; its exceptions propagate to the caller.
        identity: the worker's identity.
        expire_s: how long the claim outlives a killed process, in seconds.
    """

    def __init__(self, client: redis.Redis, identity: str, *, expire_s: float = EXPIRE_S) -> None:
        self._client = client
        self._identity = identity
        self._key = keys.claim(identity)
        self._token = secrets.token_hex(16)
        self._expire_ms = int(expire_s * 1000)

    def acquire(self, pause: Callable[[float], object] = time.sleep) -> None:
        """Claim the identity, waiting for an abandoned claim to expire.

        Args:
            pause: sleeps between two attempts.

        Raises:
            IdentityTakenError: a live process holds it.
            RedisError: the server is unavailable.
        """
        left: int | None = None
        while not self.renew():
            if left is None:
                logger.info("another process has, or had, the identity %r: looking whether it lives", self._identity)
            before, left = left, self._client.pttl(self._key)
            if before is not None and left is not None and left > before:
                raise IdentityTakenError(self._identity)
            pause(_LOOK_S)

    def renew(self) -> bool:
        """Renew the claim, or claim the identity if it is free; False if another process holds it.

        Raises:
            RedisError: the server is unavailable.
        """
        return bool(self._client.eval(_RENEW, 1, self._key, self._token, str(self._expire_ms)))

    def release(self) -> None:
        """Free the identity for the next process at once.

        Raises:
            RedisError: the server is unavailable.
        """
        self._client.eval(_RELEASE, 1, self._key, self._token)
