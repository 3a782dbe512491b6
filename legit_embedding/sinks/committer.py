"""Gets answers written, whatever it takes."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from legit_embedding.link import explain
from legit_embedding.messages import Written
from legit_embedding.outage import Outage
from legit_embedding.sinks import separate
from legit_embedding.sinks.commit import ALREADY, REFUSED, WRITTEN, Batch, parse
from legit_embedding.sinks.routing import Router

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from legit_embedding.config import StreamConfig
    from legit_embedding.link import Backoff, Link
    from legit_embedding.outage import Health
    from legit_embedding.sinks.answer import Answer
    from legit_embedding.sinks.stats import Counters

logger = logging.getLogger(__name__)

_STREAM_IS_BAD = ("WRONGTYPE", "NOPERM")
"""Refusals that speak of the result stream itself, not of the server's state: waiting mends nothing."""

_SERVER_IS_BUSY = ("BUSY", "MISCONF", "NOREPLICAS")
_SERVER_STATES = (AskError, ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)


class Committer:
    """Commits batches of answers, each again and again until all of it is settled.

    Args:
        config: the streams.
        worker: the identity for the field ``worker``.
        server: what to call the server in the log.
        counters: what to count in.
        backoff: how long to wait between attempts.
        release: told which answers are confirmed, before each one's own callback is.
    """

    def __init__(
        self,
        config: StreamConfig,
        worker: str,
        server: str,
        counters: Counters,
        backoff: Backoff,
        release: Callable[[Sequence[Answer]], None],
    ) -> None:
        self._config = config
        self._worker = worker
        self._counters = counters
        self._backoff = backoff
        self._release = release
        self._router = Router(config)
        self._outage = Outage(f"writing results to {server}")
        self._refusal = Outage(f"the result stream {config.results!r} at {server}")
        self._recovered = asyncio.Event()
        self._split = False

    @property
    def health(self) -> Health:
        """Whether answers get through."""
        return self._refusal.health if self._outage.health.ok else self._outage.health

    async def settle(self, link: Link, answers: Sequence[Answer]) -> None:
        """Return when every one of these answers is confirmed."""
        began = time.monotonic()
        for answer in answers:
            self._counters.refused += not answer.route(self._router)
        attempt = 0
        while answers:
            refused = self._confirm(answers, await self._replies(link, answers))
            answers = [answer for answer, _ in refused]
            if not all([self._redirect(answer, reason) for answer, reason in refused]):
                attempt += 1
                self._counters.retries += 1
                await link.reset()
                await asyncio.sleep(self._backoff.delay(attempt))
        if attempt:
            self._refusal.over()
        self._counters.confirmed(time.monotonic() - began)

    async def _replies(self, link: Link, answers: Sequence[Answer]) -> list[bytes]:
        """The script's reply to each answer, after as many attempts as that takes."""
        attempt = 0
        batch: Batch | None = None
        while True:
            try:
                if self._split:
                    replies = await separate.commit(link, answers, self._config, self._worker)
                else:
                    batch = batch or Batch(answers, self._config, self._worker)
                    replies = await batch.commit(link)
            except ClusterCrossSlotError:
                self._split = True
                logger.warning("task and result streams are in different cluster slots: answers are at least once")
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again and shows in the health
                if _blames_the_batch(error):
                    return await self._halves(link, answers, error)
                attempt += 1
                await self._wait(link, attempt, error)
            else:
                self._outage.over()
                self._recovered.set()
                return replies

    async def _halves(self, link: Link, answers: Sequence[Answer], error: Exception) -> list[bytes]:
        """Find the answer for which a batch is refused as a whole, so that it costs itself only."""
        if len(answers) == 1:
            return [REFUSED + explain(error).encode()]
        middle = len(answers) // 2
        return [*await self._replies(link, answers[:middle]), *await self._replies(link, answers[middle:])]

    async def _wait(self, link: Link, attempt: int, error: Exception) -> None:
        """Let some time pass after a failure; less when another batch gets through meanwhile."""
        self._counters.retries += 1
        self._outage.failed(explain(error))
        self._recovered.clear()
        await link.reset()
        await asyncio.sleep(self._backoff.delay(1))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._recovered.wait(), self._backoff.delay(attempt))

    def _confirm(self, answers: Sequence[Answer], replies: Sequence[bytes]) -> list[tuple[Answer, str]]:
        """Tell whoever waits for a confirmed answer; returns the others, and why they were refused."""
        refused: list[tuple[Answer, str]] = []
        confirmed: list[tuple[Answer, str]] = []
        for answer, reply in zip(answers, replies, strict=True):
            mark, text = parse(reply)
            (refused if mark == REFUSED else confirmed).append((answer, text))
            self._counters.written += mark == WRITTEN
            self._counters.already += mark == ALREADY
        self._release([answer for answer, _ in confirmed])
        for answer, entry_id in confirmed:
            _tell(answer, entry_id)
        return refused

    def _redirect(self, answer: Answer, reason: str) -> bool:
        """Answer on the default stream that the chosen one cannot be written; False when that is the default."""
        default = self._config.results
        if answer.stream != default and reason.startswith(_STREAM_IS_BAD):
            logger.warning("the result stream %r of %r: %s", answer.stream, answer.result.address.task_id, reason)
            answer.redirect(default, reason)
            self._counters.refused += 1
            return True
        self._refusal.failed(f"{answer.stream}: {reason}")
        return False


def _tell(answer: Answer, entry_id: str) -> None:
    try:
        answer.settled(Written(answer.result, answer.stream, entry_id))
    except Exception:
        logger.exception("what waits for the result of %r failed when told of it", answer.result.address.task_id)


def _blames_the_batch(error: Exception) -> bool:
    """Whether the error speaks of what was sent, so that sending the same again is in vain."""
    if isinstance(error, ResponseError):
        return not isinstance(error, _SERVER_STATES) and not str(error).startswith(_SERVER_IS_BUSY)
    return isinstance(error, (ValueError, TypeError, AttributeError))
