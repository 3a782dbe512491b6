"""The task stream as a source: one consumer of its group, on its own thread."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol

from redis.exceptions import RedisError

from legit_embedding.dead_letter.bury import DeadLetter
from legit_embedding.pipeline.protocols import SourceStats
from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.redis_io.cluster import make_link
from legit_embedding.redis_io.connection import Backoff, explain
from legit_embedding.redis_io.health import Health, Outage
from legit_embedding.redis_io.tasks import run_until
from legit_embedding.sources.stream.group import Group
from legit_embedding.sources.stream.in_flight import InFlightEntries
from legit_embedding.sources.stream.maintenance import Maintenance
from legit_embedding.sources.stream.reader import Reader
from legit_embedding.sources.stream.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from legit_embedding.config import StreamConfig
    from legit_embedding.errors import GivenBackError, TaskError
    from legit_embedding.pipeline.caller import Caller, HandedOver
    from legit_embedding.redis_io.connection import Link
    from legit_embedding.wire.result import Origin, Written
    from legit_embedding.wire.stream_entry import Entry

logger = logging.getLogger(__name__)


class Taker(Protocol):
    """The part of the pipeline that accepts tasks."""

    def submit_all(self, tasks: Iterable[tuple[object, Origin, Caller]]) -> None:
        """Accept tasks that came together."""

    def refuse(self, raw: object, origin: Origin, error: TaskError, caller: Caller) -> None:
        """Answer a task with an error."""

    def room(self, far: int = 0) -> int:
        """The number of further tasks that it accepts; `far` is the number that the way from the server holds."""
        ...


class EntryCaller:
    """Reports the outcome of one entry's task to the source."""

    __slots__ = ("_entry_id", "_source")

    def __init__(self, source: StreamSource, entry_id: str) -> None:
        self._source = source
        self._entry_id = entry_id

    def written(self, written: Written) -> None:  # noqa: ARG002 - the answer and the acknowledgement were one step
        """Settle the entry, which was acknowledged together with its answer."""
        self._source.settled(self._entry_id)

    def handed_over(self, handed: HandedOver) -> None:  # noqa: ARG002
        """Give the entry back; does not occur, since a prep-only worker reads no stream."""
        self._source.given_back(self._entry_id)

    def given_back(self, error: GivenBackError) -> None:  # noqa: ARG002
        """Give the entry back for other workers."""
        self._source.given_back(self._entry_id)


LAST_READ_S = 2.0
"""The time that a shutdown waits for entries that Redis is sending, in seconds."""
_STEADY_S = 1.0
"""The duration of a session, in seconds, after which the previous outage counts as over."""


class StreamSource:
    """Reads tasks from the stream, submits them, keeps them claimed while in flight, and leaves the group at the end.

    Redis may be unavailable at any time: the source keeps reconnecting until it is closed.

    Args:
        config: the streams.
        url: the Redis server.
        consumer: this consumer's name: the worker's identity.
        taker: the pipeline; must be quick. If it raises, the entry is retried later.
        timeout_s: how long Redis may take to answer before the connection is given up.
        backoff: how long to wait between attempts to reach Redis.
    """

    name = "stream-source"

    def __init__(
        self,
        config: StreamConfig,
        url: str | RedisAddress,
        consumer: str,
        taker: Taker,
        *,
        timeout_s: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._config = config
        self._taker = taker
        self._address = RedisAddress.of(url)
        self._consumer = consumer
        self._timeout_s = timeout_s
        self._backoff = backoff or Backoff()
        self._in_flight = InFlightEntries(self._submit, taker.room)
        self._retries = Retries(config.max_deliveries)
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
        """Events to set when the reader has ended."""
        self._thread = Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Start the thread. Redis need not be available yet."""
        self._thread.start()
        self._turns.wait()

    def _submit(self, entries: Sequence[Entry]) -> None:
        self._taker.submit_all(
            [(each.raw, each.origin, EntryCaller(self, each.origin.id)) for each in entries if each.error is None]
        )
        for entry in entries:
            if entry.error is not None:
                self._taker.refuse(entry.raw, entry.origin, entry.error, EntryCaller(self, entry.origin.id))

    def settled(self, entry_id: str) -> None:
        """Remove an entry whose answer is confirmed. Called from any thread; quick."""
        self._in_flight.settled(entry_id)

    def given_back(self, entry_id: str) -> None:
        """Return an entry that was not tried: it stays pending, the delivery does not count, and others may have it."""
        self._in_flight.given_back(entry_id)

    def wake(self) -> None:
        """Check for room again. Called from any thread; quick."""
        self._in_flight.changed()

    def stop_reading(self) -> None:
        """Stop reading; submitted entries are kept alive until they are settled or `close` is called.

        Entries that Redis has already delivered to this consumer are still submitted if they arrive within
        `LAST_READ_S`; later ones are left to others. When this returns, no call of ``submit`` is in progress, and there
        will be none.
        """
        over = Event()
        if self._in_loop(lambda: self._stop_reading(over)):
            over.wait(LAST_READ_S)
        self._in_flight.close()

    def close(self, timeout: float = 5.0) -> None:
        """Release unsettled entries, leave the group if no entry is owned, and end the thread. Idempotent."""
        self.stop_reading()
        self._in_loop(self._closing.set)
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    def health(self) -> Health:
        """The state of reading the stream: ``ok``, or the last ``error`` and ``since`` when (Unix seconds)."""
        return self._death or self._outage.health

    def stats(self) -> SourceStats:
        """The current counters."""
        return SourceStats(
            read=self._in_flight.submitted,
            reclaimed=self._retries.reclaimed,
            dead=self._dead_letter.buried,
            held=len(self._in_flight),
            waiting=len(self._retries),
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
        """Schedule a callback in the event loop; False if the loop is not running."""
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
        link = make_link(self._address, self._timeout_s, self._config.tasks)
        attempt = 0
        try:
            while not self._closing.is_set():
                read = self._in_flight.submitted
                try:
                    await self._session(link)
                except Exception as error:  # noqa: BLE001 - whatever it is, it shows in the health and is tried again
                    # If a link breaks repeatedly but delivers entries in between, reconnecting must not be slowed down.
                    useful = self._outage.health.ok or self._in_flight.submitted > read
                    attempt = 1 if useful else attempt + 1
                    self._failed(error)
                    await link.reset()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._closing.wait(), self._backoff.delay(attempt))
        finally:
            await link.close()

    async def _session(self, link: Link) -> None:
        """Run one session, from a connection to its failure or to the end of this source."""
        group = Group(self._config, self._consumer, link)
        await group.make()
        parts = (self._in_flight, self._retries, self._stopping)
        reader = Reader(self._config, group, self._dead_letter, *parts)
        maintenance = Maintenance(self._config, group, *parts, reader.nudge)
        await maintenance.keep()
        if not self._stopping.is_set():
            await self._recall(group)
        running = (self._read(reader), maintenance.run(), self._steady())
        await run_until(self._closing, [asyncio.create_task(part) for part in running])
        await self._depart(group)

    async def _recall(self, group: Group) -> None:
        """Find entries that this consumer owns and that are not in flight."""
        owned = await group.own()
        known = {*self._in_flight.ids(), *self._retries}
        # Since this process started, such an entry was delivered by a reply that got lost, so it was never tried.
        # Before that, it may have killed an earlier process.
        untried = 0 if self._first else 1
        self._retries.add({entry: tries - untried for entry, tries in owned.items() if entry not in known})
        self._first = False

    async def _steady(self) -> None:
        await asyncio.sleep(_STEADY_S)
        self._outage.over()

    async def _depart(self, group: Group) -> None:
        """Return unsettled entries at once, and leave the group unless entries are still owned."""
        known = self._retries.take_all() | self._in_flight.take_returned() | self._in_flight.take_held()
        # What a lost reply has delivered is owned too.
        await group.give_back(await group.own() | known)
        if await group.leave():
            logger.info("the consumer %r has left the group", self._consumer)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (RedisError, OSError)):
            logger.error("the stream source failed, and goes on", exc_info=error)
        self._outage.failed(explain(error))
