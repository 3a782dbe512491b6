"""The workers of the group and the work that waits for them, read from Redis beside the page's own figures."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from legit_embedding.redis_io.client import make_client
from legit_embedding.redis_io.connection import explain
from legit_embedding.telemetry.scene import observe

if TYPE_CHECKING:
    from legit_embedding.pipeline.pipeline import Pipeline
    from legit_embedding.telemetry.scene import Scene

EVERY_S = 2.0
"""As often as ``legit-embedding top`` looks, in seconds."""
TIMEOUT_S = 2.0
FRESH_S = 10.0
"""The age beyond which nothing is shown any more: nobody looked for a while, or Redis does not answer."""


class GroupWatch:
    """Reads in a thread of its own, so that a Redis that is away delays no event.

    Args:
        pipeline: names the server, the streams and the queues.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._client = make_client(pipeline.settings.redis, TIMEOUT_S)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="group")
        self._reading: Future[Scene] | None = None
        self._read_at = 0.0
        self._scene: Scene | None = None
        self._scene_at = 0.0
        self.problem = ""
        """Why nothing could be read; empty while all is well."""

    def latest(self) -> Scene | None:
        """Return what was read last, None if nothing was or Redis is away, and begin to read again. Never blocks."""
        if self._reading is not None and self._reading.done():
            self._keep(self._reading)
            self._reading = None
        now = time.monotonic()
        if self._reading is None and now - self._read_at >= EVERY_S:
            self._read_at = now
            self._reading = self._reader.submit(self._read)
        return self._scene if now - self._scene_at < FRESH_S else None

    def close(self) -> None:
        """Read no more. Idempotent."""
        self._reader.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _read(self) -> Scene:
        return observe(self._client, self._pipeline.settings, self._pipeline.queues)

    def _keep(self, reading: Future[Scene]) -> None:
        self._scene_at = self._read_at
        try:
            self._scene, self.problem = reading.result(), ""
        except (RedisError, OSError) as error:
            self._scene, self.problem = None, explain(error)
