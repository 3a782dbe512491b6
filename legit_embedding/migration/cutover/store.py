"""Where the plan lives: one key in Redis."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import redis
from redis.exceptions import RedisError

from legit_embedding.migration.cutover.plan import Plan
from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.redis_io.client import make_client

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "embedding:cutover"
TTL_S = 2.0
"""The time for which a producer goes by what it has read."""
TIMEOUT_S = 0.5
"""The longest that a producer waits for Redis, at most once in `TTL_S`."""

_logger = logging.getLogger(__name__)


class PlanStore:
    """Reads and changes the plan."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    @classmethod
    def at(cls, address: RedisAddress | str) -> PlanStore:
        """The store as a producer uses it: impatient. Connects when it is first read."""
        return cls(make_client(RedisAddress.of(address), TIMEOUT_S))

    def read(self) -> Plan:
        """The plan; the default one where there is none.

        Raises:
            RedisError: the server is away.
            ValueError: what the key holds is no plan.
        """
        text = cast("bytes | None", self._client.get(KEY))
        return Plan() if text is None else Plan.parse(text)

    def change(self, change: Callable[[Plan], Plan]) -> Plan:
        """Replace the plan by what `change` makes of it, also where others change it at the same time.

        Raises:
            RedisError: the server is away.
            ValueError: what the key holds is no plan.
        """
        with self._client.pipeline(transaction=True) as pipe:
            while True:
                pipe.watch(KEY)
                text = cast("bytes | None", pipe.get(KEY))
                before = Plan() if text is None else Plan.parse(text)
                plan = change(before).replacing(before, time.time())
                pipe.multi()
                pipe.set(KEY, plan.model_dump_json(exclude_none=True))
                with suppress(redis.WatchError):
                    pipe.execute()
                    return plan

    def roll_back(self) -> Plan:
        """Send nothing to the new worker any more; works whatever the key holds.

        Raises:
            RedisError: the server is away.
        """
        try:
            return self.change(lambda _: Plan())
        except (ValueError, redis.ResponseError):
            plan = Plan().replacing(Plan(), time.time())
            self._client.set(KEY, plan.model_dump_json(exclude_none=True))
            return plan


class LastKnown:
    """The plan as one process sees it: read every `ttl` seconds at most, and never failing.

    While it cannot be read, the last known plan holds; before any was known, nothing goes to the new worker. Safe to
    use from many threads: one of them reads, and the others go on with what is known.

    Args:
        read: reads the plan; may fail.
        ttl: how long what was read holds, in seconds.
        clock: for tests.
    """

    def __init__(
        self, read: Callable[[], Plan], ttl: float = TTL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._ttl = ttl
        self._clock = clock
        self._lock = threading.Lock()
        self._plan = Plan()
        self._next_read = float("-inf")
        self._failing = False

    def __call__(self) -> Plan:
        """The plan to go by now."""
        if self._clock() >= self._next_read and self._lock.acquire(timeout=self._patience):
            try:
                if self._clock() >= self._next_read:
                    self._refresh()
            finally:
                self._lock.release()
        return self._plan

    @property
    def _patience(self) -> float:
        """The time to wait for another thread that is reading: only while nothing is known yet."""
        return 2 * TIMEOUT_S if self._next_read == float("-inf") else 0

    def _refresh(self) -> None:
        try:
            self._plan = self._read()
            self._failing = False
        except (RedisError, OSError, ValueError) as error:
            self._report(error)
        finally:
            self._next_read = self._clock() + self._ttl

    def _report(self, error: Exception) -> None:
        """Say it once, not with every task."""
        if not self._failing:
            _logger.warning(
                "%s cannot be read, so the last known share of %g%% holds: %s", KEY, self._plan.share, error
            )
        self._failing = True
