"""The reader of the task stream, which submits entries to be retried first and then new ones."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.exceptions import RedisError, ResponseError

from legit_embedding.redis_io.connection import explain
from legit_embedding.redis_io.tasks import end
from legit_embedding.sources.stream.read_ahead import ReadAhead
from legit_embedding.wire.stream_entry import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from legit_embedding.config import StreamConfig
    from legit_embedding.dead_letter.bury import DeadLetter
    from legit_embedding.redis_io.connection import Connection
    from legit_embedding.sources.stream.group import Delivered, Group
    from legit_embedding.sources.stream.in_flight import InFlightEntries
    from legit_embedding.sources.stream.retries import Retries

logger = logging.getLogger(__name__)

_ROOM_POLL_S = 0.1
_GATHER_S = 0.002
"""Pause after there was no room, in seconds, so that the next read takes many entries and not one."""
_PAGE_S = 0.0015
"""Round-trip time per page under way, in seconds. 77 ms carry 51 pages of 64; a busy worker's reads take 97 ms then, in
the median, which makes 33,000 entries per second."""
_FURTHEST = 4096
"""The most entries on their way from a distant server, which the pipeline has room for in addition."""
_PAGES = 4
"""Pages asked for together: each stage hands over more at a time, for 0.8 of the CPU of one page."""
_NUDGE_S = 0.05
_TOGETHER = 128
"""The most entries submitted together: most of what a hand-over costs is then shared by many of them, and the first are
prepared while the next are read."""


class Reader:
    """Reads entries while there is room, in one coroutine.

    Args:
        config: the streams.
        group: the group, as this consumer sees it.
        dead_letter: receives entries that were tried too often.
        in_flight: the entries in flight.
        recovered: the entries to be retried.
        stopping: set to make `run` return soon.
    """

    def __init__(
        self,
        config: StreamConfig,
        group: Group,
        dead_letter: DeadLetter,
        in_flight: InFlightEntries,
        recovered: Retries,
        stopping: asyncio.Event,
    ) -> None:
        self._config = config
        self._group = group
        self._dead_letter = dead_letter
        self._in_flight = in_flight
        self._retries = recovered
        self._stopping = stopping
        self._block_ms = min(config.block_ms, int(group.link.timeout_s * 500))
        self._client_id: int | None = None
        self._blocked = False
        self._more = False
        """True if the last read was full: there are more entries, and no need to wait for them."""
        self._ahead = _PAGES
        self._far = 0
        """The number of entries that the way from the server holds."""

    async def run(self) -> None:
        """Read until `stopping` is set."""
        nudging = asyncio.create_task(self._nudge_until_stopped())
        try:
            while not self._stopping.is_set():
                async with self._group.link.hold() as connection:
                    await self._read_over(connection)
        finally:
            await end([nudging])

    async def _read_over(self, connection: Connection) -> None:
        await self._introduce(connection)
        reads = ReadAhead(self._group, connection)
        while not (self._stopping.is_set() or connection.left):
            room = self._in_flight.room(self._far)
            if room > 0:
                await self._step(reads, room)
            else:
                await self._in_flight.change(_ROOM_POLL_S)
                await asyncio.sleep(_GATHER_S)

    async def nudge(self) -> None:
        """End the reader's blocking wait for new entries; without permission for that, the wait ends by itself."""
        if self._blocked and self._client_id is not None:
            with suppress(ResponseError):
                await self._group.link.call("CLIENT", "UNBLOCK", self._client_id)

    async def _nudge_until_stopped(self) -> None:
        await self._stopping.wait()
        while True:
            with suppress(RedisError):
                await self.nudge()
            await asyncio.sleep(_NUDGE_S)

    async def _introduce(self, connection: Connection) -> None:
        began = time.monotonic()
        with suppress(ResponseError):  # without permission, a read ends when its time is over
            self._client_id = await connection.call("CLIENT", "ID")
        pages = int((time.monotonic() - began) / _PAGE_S)
        self._ahead = max(_PAGES, pages)
        self._far = min(pages * self._config.read_count, _FURTHEST)

    async def _step(self, reads: ReadAhead, room: int) -> None:
        """Do the most urgent action: bury, retry, retry suspects alone, or read new entries."""
        if dead := self._retries.dead():
            await self._bury(dead)
        elif harmless := self._retries.harmless(min(room, self._config.read_count)):
            await self._try_again(harmless)
        elif suspects := self._retries.suspects():
            await self._try_alone(suspects)
        else:
            await self._read(reads, room)

    async def _read(self, reads: ReadAhead, room: int) -> None:
        """Wait for new entries, or if there are more than were read, read until there are not."""
        if self._more:
            await self._read_on(reads)
            return
        self._blocked = True
        try:
            await reads.ask([min(self._config.read_count, room)], self._block_ms)
            delivered, self._more = await reads.receive()
        finally:
            self._blocked = False
        self._deliver(delivered, {})

    async def _read_on(self, reads: ReadAhead) -> None:
        """Read while each read is full; the next ones are under way while the entries of one are delivered."""
        await self._ask_ahead(reads, 0)
        while reads.asked:
            delivered, full = await reads.receive()
            self._more = self._more and full
            try:
                await self._ask_ahead(reads, len(delivered))
            finally:
                self._deliver(delivered, {})

    async def _ask_ahead(self, reads: ReadAhead, received: int) -> None:
        """Have as many reads under way as the distance takes and as there is room for; none if something else is due.

        Args:
            reads: the reads under way.
            received: the number of entries that are about to be delivered.
        """
        if self._stopping.is_set() or reads.is_left or not self._more or len(self._retries):
            return
        count = self._config.read_count
        room = self._in_flight.room(self._far) - received - reads.asked
        pages = min(self._ahead - reads.asked // count, room // count)
        while pages > 0:
            await reads.ask([count] * min(pages, _PAGES))
            pages -= _PAGES
        if not reads.asked and 0 < room < count:
            await reads.ask([room])

    async def _try_again(self, tries: Mapping[str, int]) -> None:
        taken = await self._group.take(tries)
        self._retries.drop(tries)
        self._deliver(taken, tries)

    async def _try_alone(self, suspects: Mapping[str, int]) -> None:
        """Retry entries that may have killed a worker while no other entry of the stream is in flight."""
        await self._until_nothing_is_held()
        if not self._stopping.is_set():
            await self._try_again(suspects)
            await self._until_nothing_is_held()

    async def _until_nothing_is_held(self) -> None:
        # Bounded, because a task that is merely slow must not stop the stream.
        deadline = time.monotonic() + self._config.claim_idle_ms / 1000
        while len(self._in_flight) and time.monotonic() < deadline and not self._stopping.is_set():
            await self._in_flight.change(_ROOM_POLL_S)

    async def _bury(self, dead: Mapping[str, int]) -> None:
        for entry_id, tries in dead.items():
            try:
                await self._bury_one(entry_id, tries)
            except ResponseError as error:
                # The entry stays pending until it is claimed, and burying is tried again; reading continues.
                logger.error("the stream entry %s cannot be moved to the dead letter: %s", entry_id, explain(error))  # noqa: TRY400
            self._retries.drop([entry_id])

    async def _bury_one(self, entry_id: str, tries: int) -> None:
        fields = await self._group.fields(entry_id)
        if not fields:
            await self._group.clear(entry_id)
        elif await self._dead_letter.bury(self._group.link, Entry.read(entry_id, fields, tries), fields):
            logger.warning("the stream entry %s is in the dead letter: it was tried %d times", entry_id, tries)

    def _deliver(self, delivered: Delivered, tries: Mapping[str, int]) -> None:
        """Submit entries that are not in flight, many at a time; `tries` counts their earlier deliveries."""
        fresh = [each for each in delivered if each[0] not in self._in_flight]
        for start in range(0, len(fresh), _TOGETHER):
            page = fresh[start : start + _TOGETHER]
            self._in_flight.submit([Entry.read(found, fields, tries.get(found, 0) + 1) for found, fields in page])
