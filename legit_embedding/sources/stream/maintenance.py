"""Maintenance of the consumer group, concurrent with reading."""

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
"""The number of times an entry in flight is refreshed within the idle time after which it may be claimed."""
IDLE_LOOK_S = 1.0
"""The time between two looks of a worker that has no entries for some that others gave back, in seconds."""
_GONE = 2
"""The multiple of the claim idle time after which an idle consumer counts as gone."""


class Maintenance:
    """Keeps own entries alive, claims abandoned ones, and removes consumers that are gone.

    Args:
        config: the streams.
        group: the group, as this consumer sees it.
        in_flight: the entries in flight.
        recovered: receives abandoned entries, to be retried.
        stopping: set to stop claiming and removing; entries in flight are still kept alive.
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
        """Do the maintenance at regular intervals until cancelled."""
        while True:
            # The pause comes first: after an outage, it gives other consumers time to refresh their entries.
            beat_s = self._config.claim_idle_ms / 1000 / _BEATS
            await self._look_while_idle(beat_s * random.uniform(0.8, 1.0))  # noqa: S311 - spreads the load, keeps no secret
            await self.keep()
            await self._group.give_back(self._in_flight.take_returned())
            if not self._stopping.is_set():
                await self._reclaim()
                await self._sweep()

    async def _look_while_idle(self, pause_s: float) -> None:
        """Let a pause go by; a worker with nothing in hand looks meanwhile for what a stopping one has given back."""
        loop = asyncio.get_running_loop()
        until = loop.time() + pause_s
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(left, IDLE_LOOK_S))
            if not (self._stopping.is_set() or len(self._in_flight) or len(self._retries)):
                await self._reclaim()

    async def keep(self) -> None:
        """Keep this worker's entries alive; drop waiting ones that another consumer has claimed."""
        waiting = list(self._retries)
        kept = await self._group.keep([*self._in_flight.ids(), *waiting])
        self._retries.drop(entry_id for entry_id in waiting if entry_id not in kept)

    async def _reclaim(self) -> None:
        """Claim as many abandoned entries as there is room for; the cursor is kept for the next time."""
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
        return min(self._config.read_count, self._in_flight.room(0) - len(self._retries))

    async def _sweep(self) -> None:
        for name in await self._group.sweep(_GONE * self._config.claim_idle_ms):
            logger.info("removed the consumer %r, which is gone and owned nothing", name)
