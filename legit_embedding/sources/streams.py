"""The task stream as a source: one consumer of its group, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from legit_embedding.link import Backoff, Link, explain
from legit_embedding.outage import Health, Outage
from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.sinks.dead_letter import DeadLetter
from legit_embedding.sources.group import Group
from legit_embedding.sources.holdings import Holdings
from legit_embedding.sources.reader import Reader
from legit_embedding.sources.recovered import Recovered
from legit_embedding.sources.upkeep import Upkeep
from legit_embedding.turns import run_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.config import StreamConfig
    from legit_embedding.sources.entries import Entry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceStats:
    """Counts since the start; `held` and `waiting` are of this moment."""

    read: int = 0
    """Entries given to the pipeline, each delivery counted."""
    reclaimed: int = 0
    """Entries taken over from workers that are gone."""
    dead: int = 0
    held: int = 0
    """Entries in the works."""
    waiting: int = 0
    """Entries to be tried again, not in the works yet."""


LAST_READ_S = 2.0
"""How long a shutdown waits for what Redis has on its way, in seconds."""
_STEADY_S = 1.0
"""A session that lasts for so long has ended the outage before it."""


class StreamSource:
    """Reads tasks from the stream and submits them, keeps them its own while they are in the works, and leaves.

    Redis may come late, go away and come back: the source tries again until it is closed.

    Args:
        config: the streams.
        url: the Redis server.
        consumer: this consumer's name: the worker's identity.
        submit: takes an entry into the works; must be quick. One that raises leaves the entry to be tried again later.
        room: how many more entries the works can take; 0 or less stops the reading.
        timeout_s: how long Redis may take to answer before the connection is given up.
        backoff: how long to wait between attempts to reach Redis.
    """

    def __init__(
        self,
        config: StreamConfig,
        url: str | RedisAddress,
        consumer: str,
        submit: Callable[[Entry], None],
        room: Callable[[], int],
        *,
        timeout_s: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._config = config
        self._address = RedisAddress.of(url)
        self._consumer = consumer
        self._timeout_s = timeout_s
        self._backoff = backoff or Backoff()
        self._holdings = Holdings(submit, room)
        self._recovered = Recovered(config.max_deliveries)
        self._dead_letter = DeadLetter(config, consumer)
        self._outage = Outage(f"the task stream {config.tasks!r} at {self._address.public}")
        self._death: Health | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = Event()
        self._stopping = asyncio.Event()
        self._closing = asyncio.Event()
        self._first = True
        self._reading = False
        self._last_read: list[Event] = []
        """Set when the reader has ended."""
        self._thread = Thread(target=self._run, name="stream-source", daemon=True)

    def start(self) -> None:
        """Start the thread. Redis need not be there yet."""
        self._thread.start()
        self._turns.wait()

    def settled(self, entry_id: str) -> None:
        """The entry's answer is confirmed: it is not worked on here any more. Any thread; quick."""
        self._holdings.settled(entry_id)

    def given_back(self, entry_id: str) -> None:
        """The entry was not tried: it stays pending, this delivery does not count, and others may have it at once."""
        self._holdings.given_back(entry_id)

    def wake(self) -> None:
        """There may be room again. Any thread; quick."""
        self._holdings.changed()

    def stop_reading(self) -> None:
        """Ask for nothing more; what was submitted is kept alive until it is settled or `close` is called.

        What Redis has given to this consumer already is still submitted, if it arrives within `LAST_READ_S`; after that
        it is left to others. When this returns, no call of ``submit`` is under way, and there will be none.
        """
        over = Event()
        if self._in_loop(lambda: self._stop_reading(over)):
            over.wait(LAST_READ_S)
        self._holdings.close()

    def close(self, timeout: float = 5.0) -> None:
        """Let go of what is unsettled, leave the group if nothing is owned in it, and end the thread. Idempotent."""
        self.stop_reading()
        self._in_loop(self._closing.set)
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def health(self) -> Health:
        """Whether the stream can be read: ``ok``, or the last ``error`` and ``since`` when (unix seconds)."""
        return self._death or self._outage.health

    def stats(self) -> SourceStats:
        """Counters of this moment."""
        return SourceStats(
            read=self._holdings.submitted,
            reclaimed=self._recovered.reclaimed,
            dead=self._dead_letter.buried,
            held=len(self._holdings),
            waiting=len(self._recovered),
        )

    def _stop_reading(self, over: Event) -> None:
        self._stopping.set()
        if self._reading:
            self._last_read.append(over)
        else:
            over.set()

    async def _read(self, reader: Reader) -> None:
        self._reading = True
        try:
            await reader.run()
        finally:
            self._reading = False
            while self._last_read:
                self._last_read.pop().set()

    def _in_loop(self, callback: Callable[[], None]) -> bool:
        """Call this in the loop, if that turns."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(callback)
                return True
        return False

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:
            logger.critical("the stream source's thread ended: the task stream is not read any more", exc_info=True)
            self._death = Health(ok=False, error=f"the source's thread ended: {error!r}", since=time.time())
        finally:
            self._turns.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns.set()
        link = Link(self._address, self._timeout_s)
        attempt = 0
        try:
            while not self._closing.is_set():
                read = self._holdings.submitted
                try:
                    await self._session(link)
                except Exception as error:  # noqa: BLE001 - whatever it is, it shows in the health and is tried again
                    # A link that breaks again and again, but brings entries in between, is not one to stay away from.
                    useful = self._outage.health.ok or self._holdings.submitted > read
                    attempt = 1 if useful else attempt + 1
                    self._failed(error)
                    await link.reset()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._closing.wait(), self._backoff.delay(attempt))
        finally:
            await link.close()

    async def _session(self, link: Link) -> None:
        """From a connection to its failure, or to the end of this source."""
        group = Group(self._config, self._consumer, link)
        await group.make()
        parts = (self._holdings, self._recovered, self._stopping)
        reader = Reader(self._config, group, self._dead_letter, *parts)
        upkeep = Upkeep(self._config, group, *parts, reader.nudge)
        await upkeep.keep()
        if not self._stopping.is_set():
            await self._recall(group)
        running = (self._read(reader), upkeep.run(), self._steady())
        await run_until(self._closing, [asyncio.create_task(part) for part in running])
        await self._depart(group)

    async def _recall(self, group: Group) -> None:
        """Find what is this consumer's, and not in the works."""
        owned = await group.own()
        known = {*self._holdings.ids(), *self._recovered}
        # In this process's life such an entry was delivered by a reply that got lost: nobody has tried it. An earlier
        # life may have died of it.
        untried = 0 if self._first else 1
        self._recovered.add({entry: tries - untried for entry, tries in owned.items() if entry not in known})
        self._first = False

    async def _steady(self) -> None:
        await asyncio.sleep(_STEADY_S)
        self._outage.over()

    async def _depart(self, group: Group) -> None:
        """Let others have at once what was not settled; leave, unless something is still owned."""
        await group.give_back(self._holdings.take_returned() | self._holdings.take_held())
        if await group.leave():
            logger.info("the consumer %r has left the group", self._consumer)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (RedisError, OSError)):
            logger.error("the stream source failed, and goes on", exc_info=error)
        self._outage.failed(explain(error))
