"""Committing of answers, with retries until each one is settled."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    DataError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from legit_embedding.dead_letter.bury import DeadLetter
from legit_embedding.errors import TaskError, in_one_line
from legit_embedding.redis_io.connection import explain
from legit_embedding.redis_io.health import Outage
from legit_embedding.sinks import non_atomic as separate
from legit_embedding.sinks.commit import REFUSED, WRITTEN, Batch, fits_the_step, parse
from legit_embedding.sinks.packing import EntryPacker
from legit_embedding.sinks.routing import Router
from legit_embedding.wire.result import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from legit_embedding.config import StreamConfig
    from legit_embedding.redis_io.connection import Backoff, Link
    from legit_embedding.redis_io.health import Health
    from legit_embedding.sinks.answer import Answer
    from legit_embedding.sinks.stats import Counters

logger = logging.getLogger(__name__)

_SERVER_STATES = (AskError, ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
_SERVER_IS_BUSY = (
    *("BUSY", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "LOADING", "MASTERDOWN"),
    *("CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK "),
)
"""Refusals that concern the server as a whole: they are waited out, like a lost connection."""

_LARGE = 512 * 1024
_LOST_WITH_IT = 3
"""A server may drop the connection silently when a request is too large; this many losses in a row indicate that."""


class Committer:
    """Commits batches of answers, retrying each until all of it is settled.

    Args:
        config: the streams.
        worker: the identity for the field ``worker``.
        server: the name of the server in the log.
        counters: the writer's counters.
        backoff: how long to wait between attempts.
        release: called with the confirmed answers, before their own callbacks.
        wrote: called with a stream and the number of entries that were written to it.
    """

    def __init__(
        self,
        config: StreamConfig,
        worker: str,
        server: str,
        counters: Counters,
        backoff: Backoff,
        release: Callable[[Sequence[Answer]], None],
        wrote: Callable[[str, int], None] = lambda _stream, _count: None,
    ) -> None:
        self._config = config
        self._worker = worker
        self._packer = EntryPacker(worker)
        self._counters = counters
        self._backoff = backoff
        self._release = release
        self._wrote = wrote
        self._dead_letter = DeadLetter(config, worker)
        self._router = Router(config)
        self._outage = Outage(f"writing results to {server}")
        self._refusal = Outage(f"the result stream {config.results!r} at {server}", "its tasks go to the dead letter")
        self._retries = asyncio.Event()
        self._split = False

    @property
    def health(self) -> Health:
        """The state of the result streams."""
        return self._refusal.health if self._outage.health.ok else self._outage.health

    async def settle(self, link: Link, answers: Sequence[Answer]) -> None:
        """Commit these answers; returns when each one is confirmed, in the dead letter, or given back to its source."""
        began = time.monotonic()
        try:
            await self._settle(link, answers)
        except Exception as error:
            logger.exception("writing %d answers failed unforeseen", len(answers))
            for answer in answers:
                self._give_up(answer, in_one_line(error))
        self._counters.confirmed(time.monotonic() - began)

    async def _settle(self, link: Link, answers: Sequence[Answer]) -> None:
        answers = [answer for answer in answers if self._route(answer)]
        attempt = 0
        while answers:
            waiting: list[Answer] = []
            again: list[Answer] = []
            for answer, reason in self._confirm(answers, await self._replies(link, answers)):
                if _blames_the_server(reason):
                    self._outage.failed(reason)
                    waiting.append(answer)
                elif self._has_another_chance(answer, reason):
                    again.append(answer)
                else:
                    await self._bury(link, answer, reason)
            if waiting:
                attempt += 1
                self._counters.retries += 1
                await link.reset()
                await asyncio.sleep(self._backoff.delay(attempt))
            answers = [*waiting, *again]

    def _route(self, answer: Answer) -> bool:
        try:
            self._counters.refused += not answer.route(self._router)
        except Exception as error:
            logger.exception("no stream could be chosen for the answer to %r", answer.result.address.task_id)
            self._give_up(answer, in_one_line(error))
            return False
        return True

    async def _replies(self, link: Link, answers: Sequence[Answer]) -> list[bytes]:
        """The script's reply to each answer: where a cluster tears its keys apart, of the separate steps."""
        if not self._split:
            return await self._attempts(link, answers, atomic=True)
        fits = [fits_the_step(answer, self._config) for answer in answers]
        replies = [b""] * len(answers)
        for atomic in set(fits):
            places = [place for place, fit in enumerate(fits) if fit == atomic]
            found = await self._attempts(link, [answers[place] for place in places], atomic=atomic)
            for place, reply in zip(places, found, strict=True):
                replies[place] = reply
        return replies

    async def _attempts(self, link: Link, answers: Sequence[Answer], *, atomic: bool) -> list[bytes]:
        """Commit as many times as necessary."""
        attempt = 0
        batch: Batch | None = None
        while True:
            try:
                if atomic:
                    batch = batch or Batch(answers, self._config, self._packer)
                    replies = await batch.commit(link)
                else:
                    replies = await separate.commit(link, answers, self._config, self._worker)
            except ClusterCrossSlotError:
                return await self._torn_apart(link, answers)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again and shows in the health
                attempt += 1
                if _blames_the_batch(error) or await self._is_too_large(link, answers, attempt):
                    return await self._halves(link, answers, error)
                await self._wait(link, attempt, error)
            else:
                if not any(map(_is_held_up, replies)):
                    self._outage.over()
                    self._retries.set()
                return replies

    async def _torn_apart(self, link: Link, answers: Sequence[Answer]) -> list[bytes]:
        """Commit a batch whose keys are in different slots, and know better from now on."""
        if self._split:  # by our reckoning they are in one slot, but not by that of the server, or of a proxy
            return await self._attempts(link, answers, atomic=False)
        self._split = True
        torn = next((answer.stream for answer in answers if not fits_the_step(answer, self._config)), "")
        logger.warning(
            "answers to %r have keys in another cluster slot than the task stream %r: these and others like them are "
            "written at least once",
            *(torn, self._config.tasks),
        )
        return await self._replies(link, answers)

    async def _is_too_large(self, link: Link, answers: Sequence[Answer], attempt: int) -> bool:
        """True if the server is reachable but drops the connection whenever it receives this batch."""
        if attempt < _LOST_WITH_IT or sum(answer.size for answer in answers) < _LARGE:
            return False
        await link.reset()
        try:
            await link.call("PING")
        except (RedisError, OSError):
            return False
        return True

    async def _halves(self, link: Link, answers: Sequence[Answer], error: Exception) -> list[bytes]:
        """Split a batch that is refused as a whole, so that only the answer at fault is refused."""
        if len(answers) == 1:
            # A server that closes the connection because of the size may not get to say so.
            is_lost = isinstance(error, (RedisConnectionError, OSError))
            said = "too large for the server, which closes the connection: " if is_lost else ""
            return [REFUSED + f"{said}{_reason(error)}".encode("utf-8", "replace")]
        middle = len(answers) // 2
        return [*await self._replies(link, answers[:middle]), *await self._replies(link, answers[middle:])]

    async def _wait(self, link: Link, attempt: int, error: Exception) -> None:
        """Pause after a failure; a success of another batch ends the pause early."""
        self._counters.retries += 1
        self._outage.failed(explain(error))
        self._retries.clear()
        await link.reset()
        await asyncio.sleep(self._backoff.delay(1))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._retries.wait(), self._backoff.delay(attempt))

    def _confirm(self, answers: Sequence[Answer], replies: Sequence[bytes]) -> list[tuple[Answer, str]]:
        """Report the confirmed answers to their recipients; returns the refused ones, each with the reason."""
        refused: list[tuple[Answer, str]] = []
        confirmed: list[tuple[Answer, str]] = []
        written: list[str] = []
        for answer, reply in zip(answers, replies, strict=True):
            mark, text = parse(reply)
            (refused if mark == REFUSED else confirmed).append((answer, text))
            if mark == WRITTEN:
                written.append(answer.stream)
        self._counters.written += len(written)
        self._counters.already += len(confirmed) - len(written)
        for stream, count in Counter(written).items():
            self._wrote(stream, count)
        self._release([answer for answer, _ in confirmed])
        for answer, entry_id in confirmed:
            _tell(answer, entry_id)
        if not self._refusal.health.ok and any(answer.stream == self._config.results for answer, _ in confirmed):
            self._refusal.over()
        return refused

    def _has_another_chance(self, answer: Answer, reason: str) -> bool:
        stream = answer.stream
        if not answer.has_another_chance(self._config.results, reason):
            return False
        logger.warning("the result stream %r of %r: %s", stream, answer.result.address.task_id, reason)
        self._counters.refused += 1
        return True

    async def _bury(self, link: Link, answer: Answer, reason: str) -> None:
        """Keep the task of an answer that no result stream accepts; if the dead letter refuses it too, give it back."""
        task_id = answer.result.address.task_id
        said = f"{answer.stream}: {reason}"
        self._refusal.failed(said)
        attempt = 0
        while True:
            try:
                async with link.hold() as connection:
                    why = f"no result stream takes the answer: {said}"
                    kept = await self._dead_letter.keep(connection, answer, why)
                    answer.server = connection.server
            except Exception as error:  # noqa: BLE001 - whatever it is, this answer holds nothing up
                if not _blames_the_batch(error):
                    attempt += 1
                    await self._wait(link, attempt, error)
                    continue
                self._give_up(answer, f"{said}; the dead letter: {_reason(error)}")
                return
            logger.error("the answer to %r is refused (%s): its task is in the dead letter", task_id, said)
            answer.result = replace(answer.result, outcome=TaskError("dead_letter", f"no stream takes it: {said}"))
            answer.stream = self._config.dead_letter
            self._release([answer])
            _tell(answer, kept)
            return

    def _give_up(self, answer: Answer, reason: str) -> None:
        """Give the task of an answer that cannot be written back to its source."""
        if answer.over:
            return
        answer.over = True
        logger.error("the answer to %r is written nowhere: %s", answer.result.address.task_id, reason)
        self._release([answer])
        try:
            answer.job.unwritten(reason)
        except Exception:
            logger.exception("what waits for the result of %r failed when told", answer.result.address.task_id)


def _tell(answer: Answer, entry_id: str) -> None:
    answer.over = True
    try:
        answer.job.written(Written(answer.result, answer.stream, entry_id, answer.server))
    except Exception:
        logger.exception("what waits for the result of %r failed when told of it", answer.result.address.task_id)


def _blames_the_batch(error: Exception) -> bool:
    """True if the error concerns the content that was sent, so that sending it again is pointless."""
    if isinstance(error, ResponseError):
        return not isinstance(error, _SERVER_STATES) and not _blames_the_server(explain(error))
    return isinstance(error, DataError) or not isinstance(error, (RedisError, OSError, EOFError))


def _blames_the_server(reason: str) -> bool:
    """True if a refusal concerns the server's state, or this worker's permissions in general."""
    return reason.startswith(_SERVER_IS_BUSY) or (reason.startswith("NOPERM") and "permissions to run" in reason)


def _is_held_up(reply: bytes) -> bool:
    return reply.startswith(REFUSED) and _blames_the_server(parse(reply)[1])


def _reason(error: Exception) -> str:
    return explain(error) if isinstance(error, RedisError) else in_one_line(error)
