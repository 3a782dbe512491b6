"""The deployment under check: settings, Redis, and the workers that reply on the broker."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis
    from celery import Celery

    from legit_embedding.config import Settings

SCAN_S = 5.0
"""Time limit for scanning a server's keys."""
_PAGE = 1000


class Deployment:
    """Deployment before the cutover.

    Args:
        settings: the new worker's settings.
        redis: a client for ``redis_url``.
        server: the server's display name.
        app: the new worker's application, with the profile that it will run on.
        longest_task_s: duration of the longest task according to the operator, if given.
        inspect_s: how long to wait for workers to reply.
        load_models: load each model once.
    """

    def __init__(
        self,
        settings: Settings,
        redis: redis.Redis,
        server: str,
        app: Celery,
        *,
        longest_task_s: float | None = None,
        inspect_s: float = 1.0,
        load_models: bool = False,
    ) -> None:
        self.settings = settings
        self.redis = redis
        self._server = server
        self.app = app
        self.longest_task_s = longest_task_s
        self.load_models = load_models
        self._inspect_s = inspect_s

    @property
    def broker(self) -> str:
        """The broker's address, without its password."""
        return str(self.app.connection_for_read().as_uri())

    def reach_redis(self) -> str:
        """Ping the server and return its name; connection errors propagate."""
        self.redis.ping()
        return self._server

    def reach_broker(self) -> str:
        """Connect to the broker and return its address without its password; connection errors propagate."""
        with self.app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)
        return self.broker

    @cached_property
    def registered(self) -> dict[str, list[str]]:
        """Return the registered task names of each worker that replies."""
        return self.app.control.inspect(timeout=self._inspect_s).registered() or {}

    @cached_property
    def consumed(self) -> dict[str, list[str]]:
        """Return the queues consumed by each worker that replies."""
        replies = self.app.control.inspect(timeout=self._inspect_s).active_queues() or {}
        return {node: [queue["name"] for queue in queues] for node, queues in replies.items()}

    @cached_property
    def streams(self) -> list[str]:
        """Return the names of the streams found on the server within `SCAN_S`."""
        return list(self._keys("stream"))

    @cached_property
    def lists(self) -> list[str]:
        """Return the names of the lists found on the server within `SCAN_S`."""
        return list(self._keys("list"))

    def _keys(self, kind: str) -> Iterator[str]:
        deadline = time.monotonic() + SCAN_S
        cursor = 0
        while True:
            reply = self.redis.scan(cursor, count=_PAGE, _type=kind)
            cursor, names = cast("tuple[int, list[bytes]]", reply)
            yield from (name.decode("utf-8", "backslashreplace") for name in names)
            if cursor == 0 or time.monotonic() > deadline:
                return
