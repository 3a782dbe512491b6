"""One identity, one living process.

A process that starts writes a token of its own under its identity, if nobody's is there, and renews it for as long as
it lives. The token expires by itself, so a process that was killed stands in the way for `EXPIRE_S` at most; one that
leaves in an orderly way takes its token along. Whoever finds another's token watches it: one that is renewed belongs
to a living process.
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

# Renewed or taken anew in one step: after an outage the token may have expired, and somebody else may have come.
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
    """Another living process has this identity."""

    def __init__(self, identity: str) -> None:
        super().__init__(
            f"another process that is alive has the identity {identity!r}: give each worker a name of its own "
            "with -n or LEGIT_WORKER_ID"
        )


class IdentityLock:
    """The right of this process to its identity.

    Args:
        client: the server; what it raises is the caller's to handle.
        identity: the worker's identity.
        expire_s: how long the claim outlives a process that was killed.
    """

    def __init__(self, client: redis.Redis, identity: str, *, expire_s: float = EXPIRE_S) -> None:
        self._client = client
        self._identity = identity
        self._key = keys.claim(identity)
        self._token = secrets.token_hex(16)
        self._expire_ms = int(expire_s * 1000)

    def acquire(self, pause: Callable[[float], object] = time.sleep) -> None:
        """Take the identity, waiting for the end of a claim that nobody renews any more.

        Args:
            pause: waits between two looks.

        Raises:
            IdentityTakenError: a living process has it.
            RedisError: the server is away.
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
        """Hold on to the identity, or take it where nobody has it; False where another has.

        Raises:
            RedisError: the server is away.
        """
        return bool(self._client.eval(_RENEW, 1, self._key, self._token, str(self._expire_ms)))

    def release(self) -> None:
        """Let the next process have the identity at once.

        Raises:
            RedisError: the server is away.
        """
        self._client.eval(_RELEASE, 1, self._key, self._token)
