"""The writer thread, which writes answers in batches and reports their confirmation."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager, suppress
from threading import Event as ThreadEvent
from threading import Thread, local
from typing import TYPE_CHECKING, Any

from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.redis_io.cluster import make_link
from legit_embedding.redis_io.connection import Backoff
from legit_embedding.redis_io.health import Health
from legit_embedding.redis_io.tasks import end, run_until
from legit_embedding.sinks.answer import Answer, Recipient
from legit_embedding.sinks.backlog import Backlog, Limits
from legit_embedding.sinks.committer import Committer
from legit_embedding.sinks.room import Room
from legit_embedding.sinks.stats import Counters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from legit_embedding.config import StreamConfig
    from legit_embedding.redis_io.connection import Link
    from legit_embedding.sinks.stats import WriterStats
    from legit_embedding.wire.result import Result

logger = logging.getLogger(__name__)

_JOIN_S = 10.0

GATHER_S = 0.005
"""The time that a commit waits for more answers in quick succession, in seconds: a round trip costs the
process as much as ten answers do."""


class _Gathered(local):
    answers: list[Answer] | None = None
    """Those that a thread is putting together; None while it puts them one by one."""


class StreamWriter:
    """Writes results to their streams and acknowledges their tasks, asynchronously.

    Each submitted result ends in one of three ways: its job is told `written` once Redis has confirmed it, or
    `unwritten` because neither a result stream nor the dead letter accepts it; or `close` returns it, unacknowledged.
    While the server as a whole accepts no writes, the writer keeps retrying.

    Args:
        config: the streams.
        url: the Redis server.
        worker: the identity for the field ``worker``.
        on_room: called, in the writer's thread, when there is room again after `has_room` has returned False.
        limits: limits on unconfirmed answers.
        timeout_s: how long Redis may take to answer before the connection is given up.
        backoff: how long to wait between attempts.
    """

    def __init__(
        self,
        config: StreamConfig,
        url: str | RedisAddress,
        worker: str,
        *,
        on_room: Callable[[], None] | None = None,
        limits: Limits | None = None,
        timeout_s: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._address = RedisAddress.of(url)
        self._home = config.tasks
        self._on_room = on_room
        self._limits = limits or Limits()
        self._timeout_s = timeout_s
        self._backlog = Backlog(self._limits)
        self._gathered = _Gathered()
        self._counters = Counters()
        self._room = Room(config, self._tell_room)
        self._committer = Committer(
            config, worker, self._address.public, self._counters, backoff or Backoff(), self._release, self._room.wrote
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = ThreadEvent()
        self._waker = asyncio.Event()
        self._closing = asyncio.Event()
        self._leaving = asyncio.Event()
        self._death: Health | None = None
        self._gathered_at = 0.0
        self._thread = Thread(target=self._run, name="stream-writer", daemon=True)

    def start(self) -> None:
        """Start the thread. Redis need not be available yet."""
        self._thread.start()
        self._turns.wait()

    def put(self, job: Recipient, result: Result) -> None:
        """Queue a job's answer; never blocks or refuses for lack of room (check `has_room` before taking on work).

        Args:
            job: told once, in the writer's thread: `written` when Redis has confirmed the answer, `unwritten` if no
                stream accepts it, not even the dead letter.
            result: the result to write. If its address is outside the allow-list, ``reply_to_refused`` is written to
                the default stream instead and passed to `written`.

            After `close` the answer is dropped: the job is not told, and the task stays unacknowledged.
        """
        answer, gathered = Answer.of(job, result), self._gathered.answers
        if gathered is None:
            self._hand_over(answer)
            return
        gathered.append(answer)
        if len(gathered) >= self._limits.batch:
            self._hand_over(*gathered)
            gathered.clear()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Queue the answers that the calling thread puts within the block a commit at a time, the rest at its end."""
        gathered: list[Answer] = []
        self._gathered.answers = gathered
        try:
            yield
        finally:
            self._gathered.answers = None
            if gathered:
                self._hand_over(*gathered)

    def has_room(self) -> bool:
        """True if fewer results are unconfirmed than the limits allow."""
        return self._backlog.has_room()

    @property
    def unconfirmed(self) -> int:
        """The number of answers that Redis has not confirmed yet."""
        return len(self._backlog)

    @property
    def results_full(self) -> str:
        """A sentence naming a result stream full of entries that a consumer group has not read; empty if none is."""
        return self._room.full

    def drain(self, timeout: float) -> bool:
        """Wait until all answers queued so far are confirmed; False if the timeout came first."""
        return self._backlog.wait_until_empty(timeout)

    def close(self, timeout: float = 0.0) -> list[Result]:
        """Drain for at most `timeout` seconds, stop the thread, and return the unconfirmed results. Idempotent."""
        self.drain(timeout)
        self._backlog.close()
        if self._thread.is_alive():
            self._in_loop(self._closing.set)
            self._thread.join(_JOIN_S)
        return [answer.result for answer in self._backlog.rest()]

    def leave_server(self) -> None:
        """Connect anew for what is written from now on: the address has come to lead to another server."""
        self._in_loop(self._leaving.set)

    def alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    def health(self) -> Health:
        """The state of writing to Redis: ``ok``, or the last ``error`` and ``since`` when (Unix seconds)."""
        return self._death or self._committer.health

    def stats(self) -> WriterStats:
        """The current counters."""
        return self._counters.snapshot(len(self._backlog), self._backlog.size)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:
            logger.critical("the stream writer's thread ended: no result is written any more", exc_info=True)
            self._death = Health(ok=False, error=f"the writer's thread ended: {error!r}", since=time.time())
        finally:
            self._turns.set()

    def _hand_over(self, *answers: Answer) -> None:
        if self._backlog.put(*answers):
            self._in_loop(self._waker.set)

    def _in_loop(self, callback: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(callback)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns.set()
        link = make_link(self._address, self._timeout_s, self._home)
        flights: set[asyncio.Task[Any]] = set()
        try:
            running = (self._send(link, flights), self._room.watch(link), self._leave(link))
            await run_until(self._closing, [asyncio.create_task(part) for part in running])
        finally:
            await end(flights)
            await link.close()

    async def _send(self, link: Link, flights: set[asyncio.Task[Any]]) -> None:
        """Keep as many batches in flight as there are answers for, up to the limit."""
        woken: asyncio.Task[Any] = asyncio.create_task(self._waker.wait())
        while True:
            while len(flights) < self._limits.in_flight and (answers := self._backlog.take()):
                flights.add(asyncio.create_task(self._committer.settle(link, answers)))
            self._counters.in_flight = len(flights)
            done, _ = await asyncio.wait({woken, *flights}, return_when=asyncio.FIRST_COMPLETED)
            if woken in done:
                await self._gather()
                self._waker.clear()
                woken = asyncio.create_task(self._waker.wait())
            for flight in done & flights:
                flights.remove(flight)
                flight.result()

    async def _leave(self, link: Link) -> None:
        """Drop the connections whenever it is asked for."""
        while await self._leaving.wait():
            self._leaving.clear()
            await link.reset()

    async def _gather(self) -> None:
        """Wait briefly for more answers if they come in quick succession."""
        last, self._gathered_at = self._gathered_at, time.monotonic()
        if self._gathered_at - last < 2 * GATHER_S and self._backlog.waiting < self._limits.batch:
            await asyncio.sleep(GATHER_S)

    def _release(self, answers: Sequence[Answer]) -> None:
        if self._backlog.release(answers):
            self._tell_room()

    def _tell_room(self) -> None:
        if self._on_room is not None:
            try:
                self._on_room()
            except Exception:
                logger.exception("what waits for room failed when told of it")
