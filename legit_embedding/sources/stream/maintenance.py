"""What keeps the group in order, beside the reading."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from legit_embedding.config import StreamConfig
    from legit_embedding.sources.stream.group import Group
    from legit_embedding.sources.stream.in_flight import InFlightEntries
    from legit_embedding.sources.stream.retries import Retries

logger = logging.getLogger(__name__)

_BEATS = 3
"""How often an entry in the works is kept alive in the time after which another may claim it."""
_GONE = 2
"""A consumer that was idle for so many times the claim's idle time is gone."""


class Maintenance:
    """Keeps own entries alive, takes over abandoned ones, and removes consumers that are gone.

    Args:
        config: the streams.
        group: the group, as this consumer sees it.
        in_flight: what is in the works.
        recovered: where abandoned entries go, to be tried again.
        stopping: set to reclaim and remove nothing more; what is held is still kept alive.
        found: called after entries were recovered.
    """

    def __init__(
        self,
        config: StreamConfig,
        group: Group,
        in_flight: InFlightEntries,
        recovered: Retries,
        stopping: asyncio.Event,
        found: Callable[[], Awaitable[None]],
    ) -> None:
        self._config = config
        self._group = group
        self._in_flight = in_flight
        self._retries = recovered
        self._stopping = stopping
        self._found = found
        self._cursor = "0-0"

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            # First a pause: after an outage, the others have a moment to say what they are working on.
            beat_s = self._config.claim_idle_ms / 1000 / _BEATS
            await asyncio.sleep(beat_s * random.uniform(0.8, 1.0))  # noqa: S311 - spreads the load, keeps no secret
            await self.keep()
            await self._group.give_back(self._in_flight.take_returned())
            if not self._stopping.is_set():
                await self._reclaim()
                await self._sweep()

    async def keep(self) -> None:
        """Keep alive what is this worker's; forget what another has taken, unless it is in the works."""
        waiting = list(self._retries)
        kept = await self._group.keep([*self._in_flight.ids(), *waiting])
        self._retries.drop(entry_id for entry_id in waiting if entry_id not in kept)

    async def _reclaim(self) -> None:
        """Take over as many abandoned entries as there is room for; the cursor is carried to the next time."""
        while not self._stopping.is_set() and (count := self._wanted()) > 0:
            self._cursor, found = await self._group.reclaim(self._cursor, count)
            fresh = {entry_id: tries for entry_id, tries in found.items() if entry_id not in self._in_flight}
            self._retries.add(fresh)
            self._retries.reclaimed += len(fresh)
            if fresh:
                logger.info("took over %d stream entries that nobody cared for", len(fresh))
                await self._found()
            if self._cursor == "0-0":
                return

    def _wanted(self) -> int:
        return min(self._config.read_count, self._in_flight.room() - len(self._retries))

    async def _sweep(self) -> None:
        for name in await self._group.sweep(_GONE * self._config.claim_idle_ms):
            logger.info("removed the consumer %r, which is gone and owned nothing", name)
