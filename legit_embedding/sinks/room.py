"""Limits on the result streams: entries that a consumer group has not acknowledged are not trimmed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING

from redis.exceptions import RedisError, ResponseError

from legit_embedding.redis_io.connection import Script, explain
from legit_embedding.sinks.commit import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.config import StreamConfig
    from legit_embedding.redis_io.connection import Link

logger = logging.getLogger(__name__)

SCRIPT = Script(files(__package__).joinpath("room.lua").read_text(encoding="utf-8"))

CHECK_S = 1.0
"""Interval in seconds at which the streams written to are checked, at one round trip each. A stream exceeds its limit
by the entries the fleet writes between checks, since the checks trim and the writes do not."""
_SHARE = 16
"""A stream is checked early when one part in this many of its limit has been written."""


class Room:
    """Watches the result streams this worker writes to, while ``streams.overflow`` is ``wait``.

    Args:
        config: the streams.
        on_room: called when a stream that was full has room again.
    """

    def __init__(self, config: StreamConfig, on_room: Callable[[], None]) -> None:
        self._limit = config.result_maxlen
        self._watches = config.overflow == "wait" and config.result_maxlen > 0
        self._on_room = on_room
        self._soon = asyncio.Event()
        self._written = dict.fromkeys((config.results, *config.routes.values()), 0)
        self._full: dict[str, str] = {}
        self._refused: set[str] = set()
        self.full = ""
        """A sentence naming the full stream and the group that holds it up; empty if none is full."""

    def wrote(self, stream: str, count: int) -> None:
        """Count written entries. Called in the event loop that watches."""
        if self._watches:
            written = self._written[stream] = self._written.get(stream, 0) + count
            if written * _SHARE >= self._limit:
                self._soon.set()

    async def watch(self, link: Link) -> None:
        """Check the streams until cancelled."""
        while self._watches:
            streams, self._written = [*self._written, *self._full], {}
            for stream in dict.fromkeys(streams):
                await self._check(link, stream)
            with suppress(TimeoutError):
                # A full stream is still written to while the work in progress lasts, so early checks would not help.
                await asyncio.wait_for(asyncio.Event().wait() if self._full else self._soon.wait(), CHECK_S)
            self._soon.clear()

    async def _check(self, link: Link, stream: str) -> None:
        try:
            holder = (await link.run(SCRIPT, [wire(stream)], [self._limit])).decode("utf-8", "replace")
        except ResponseError as error:
            if stream not in self._refused:
                self._refused.add(stream)
                logger.warning("the result stream %r cannot be trimmed: %s", stream, explain(error))
            return
        except (RedisError, OSError):
            self._written.setdefault(stream, 0)  # the writer reports the lost server; the stream is checked again
            return
        if holder:
            self._fill(stream, holder)
        elif self._full.pop(stream, None) is not None:
            self._say()
            logger.warning("the result stream %r has room again", stream)
            self._on_room()

    def _fill(self, stream: str, holder: str) -> None:
        known = self._full.get(stream)
        self._full[stream] = holder
        self._say()
        if known != holder:
            logger.warning("%s; no more tasks are read", self.full)

    def _say(self) -> None:
        self.full = next(
            (
                f"results_full: the result stream {stream!r} is at its limit of {self._limit} entries, "
                f"and its group {holder!r} has not acknowledged the oldest"
                for stream, holder in self._full.items()
            ),
            "",
        )
