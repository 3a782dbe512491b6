"""Heartbeat thread: holds the worker's identity and publishes its state."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from legit_embedding.errors import ConfigError
from legit_embedding.redis_io.client import make_client
from legit_embedding.redis_io.connection import explain
from legit_embedding.redis_io.health import Outage
from legit_embedding.telemetry.backlog import look
from legit_embedding.telemetry.health import STALL_S, State, is_stuck, state_of
from legit_embedding.telemetry.identity_lock import EXPIRE_S, RENEW_S, IdentityLock, IdentityTakenError
from legit_embedding.telemetry.minutes import Minutes
from legit_embedding.telemetry.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.pipeline.snapshot import Observed

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
_JOIN_S = 3.0
"""Longest wait for an unresponsive server at shutdown: the claim expires by itself anyway."""


class Heartbeat:
    """Claims the identity, publishes heartbeats, and checks that every thread of the pipeline is alive.

    It never blocks the pipeline: an unavailable Redis is logged once, and the next beat tries again.

    Args:
        pipeline: the worker's pipeline.
        exclusive: refuse to run while another worker holds the identity; otherwise run without publishing.
        on_fatal: called when the worker has to exit: one of its threads has died, the device has been stuck for
            ``engine.stall_exit_s``, or another worker has held its identity all along.
        stall_s: longest time without progress for the device loop, in seconds.
    """

    def __init__(
        self,
        pipeline: Observed,
        *,
        exclusive: bool,
        on_fatal: Callable[[BaseException], None] | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        settings = pipeline.settings
        self._pipeline = pipeline
        self._exclusive = exclusive
        self._on_fatal = on_fatal
        self._stall_s = stall_s
        self._client = make_client(settings.redis, TIMEOUT_S)
        self._claim = IdentityLock(self._client, pipeline.worker)
        self._publisher = Publisher(self._client, pipeline)
        self._interval_s = settings.telemetry.interval_s
        self._outage = Outage(f"telemetry to {settings.redis.public}")
        self._is_ours = self._was_ours = False
        self._denied_since: float | None = None
        self._published: State | None = None
        self._published_at = self._renewed_at = self._counted_at = 0.0
        self._minutes = Minutes()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Claim the identity and start the threads. Claiming takes a while if the last holder was killed.

        Raises:
            ConfigError: another live process holds the identity.
        """
        if self._exclusive:
            try:
                self._claim.acquire(self._closing.wait)
            except IdentityTakenError as error:
                raise ConfigError(str(error)) from None
            except (RedisError, OSError) as error:
                self._outage.failed(explain(error))
            else:
                self._is_ours = self._was_ours = True
                self._renewed_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and release the identity. Idempotent."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        if self._is_ours and self._outage.health.ok and not self._thread.is_alive():
            self._is_ours = False
            with suppress(RedisError, OSError):
                self._publisher.withdraw()
                self._claim.release()
        self._client.close()

    def state(self) -> tuple[State, list[str]]:
        """Return the worker's state and its problems."""
        others = []
        if not self._outage.health.ok:
            others.append(f"Redis cannot be reached: {self._outage.health.error}")
        if self._denied:
            others.append(str(IdentityTakenError(self._pipeline.worker)))
        return state_of(self._pipeline.snapshot(), others, self._stall_s)

    @property
    def _denied(self) -> bool:
        """True if another live worker holds the identity: an abandoned claim would have expired by now."""
        return self._denied_since is not None and time.monotonic() - self._denied_since > EXPIRE_S + RENEW_S

    def _run(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            pause = min(RENEW_S, self._interval_s)
            try:
                self._minutes.tick(self._pipeline.snapshot())
                self._watch()
                self._beat()
            except (RedisError, OSError) as error:
                self._outage.failed(explain(error))
            except Exception:
                logger.exception("A heartbeat failed")

    def _beat(self) -> None:
        now = time.monotonic()
        if not self._is_ours or now - self._renewed_at >= RENEW_S:
            self._renew(now)
        state, found = self.state()
        # A change of state is published at once, not at the next heartbeat.
        if self._is_ours and (state != self._published or now - self._published_at >= self._interval_s):
            self._publisher.publish(state, "; ".join(found))
            self._published, self._published_at = state, now
        if now - self._counted_at >= self._interval_s:
            self._counted_at = now
            board = self._pipeline.backlog
            try:
                board.latest = look(self._client, self._pipeline.settings.streams, board.count_queues)
            except Exception:
                logger.debug("The backlog cannot be counted", exc_info=True)
        self._outage.over()

    def _renew(self, now: float) -> None:
        self._is_ours = self._claim.renew()
        self._renewed_at = now
        if self._is_ours:
            self._was_ours, self._denied_since = True, None
            return
        first = self._denied_since is None
        self._denied_since = now if first else self._denied_since
        if self._was_ours and first:
            # This worker had the identity, lost its connection for a while, and another worker claimed it meanwhile.
            logger.error("%s; this worker goes on without showing itself", IdentityTakenError(self._pipeline.worker))
        elif self._denied and self._exclusive and not self._was_ours:
            self._end(IdentityTakenError(self._pipeline.worker))

    def _watch(self) -> None:
        snapshot, longest = self._pipeline.snapshot(), self._pipeline.settings.engine.stall_exit_s
        if snapshot.phase != "running":
            return
        if snapshot.dead_thread is not None:
            self._end(RuntimeError(f"the thread {snapshot.dead_thread} has ended"))
        elif longest is not None and is_stuck(snapshot, longest):
            self._end(RuntimeError(f"nothing has moved on the device for {longest:g} s (engine.stall_exit_s)"))

    def _end(self, cause: BaseException) -> None:
        on_fatal, self._on_fatal = self._on_fatal, None
        if on_fatal is not None:
            on_fatal(cause)
