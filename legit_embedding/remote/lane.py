"""The way of one remote model's items: batches, several requests in flight, retries and probes."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from legit_embedding.engine.batching.batch import Batch
from legit_embedding.engine.batching.packer import MAX_ITEMS
from legit_embedding.engine.halving import Halving
from legit_embedding.engine.outcomes import Vectors
from legit_embedding.engine.sizing.cost_model import Line
from legit_embedding.engine.sizing.profile import Plan
from legit_embedding.engine.stats import RemoteStats
from legit_embedding.errors import ErrorCode, TaskError, in_one_line
from legit_embedding.models.harmless import harmless_item
from legit_embedding.redis_io.connection import Backoff
from legit_embedding.redis_io.health import Outage
from legit_embedding.redis_io.tasks import end
from legit_embedding.remote.breaker import Breaker
from legit_embedding.remote.errors import OutageError, RefusedError
from legit_embedding.remote.model import MAX_BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.engine.delivery import Delivery
    from legit_embedding.engine.in_flight import InFlightBatches
    from legit_embedding.engine.model_queue import ModelQueue
    from legit_embedding.engine.outcomes import Outcomes
    from legit_embedding.engine.stats import ModelStats
    from legit_embedding.remote.exchange import Exchange

logger = logging.getLogger(__name__)

TURN_S = 0.5
"""Maximum sleep between turns: within it, an item that was cancelled or has expired is answered."""
REQUEST_BYTES = 16 * 1024 * 1024
"""Size at which a request takes no further items, in bytes."""
TRIES_TOGETHER = 3
"""Failures of a batch, while its remote still answers probes, before it is split."""
TRIES_ALONE = 10
"""Failures of a batch, those before it was split included, before its last item can be held to be the cause."""
CHANCE = 1e-9
"""Chance at which so many failures in a row are held to be no coincidence, given the share of requests that fail."""
REFUSALS = 8
"""Consecutive refusals of lone items before a probe finds out whether the remote refuses everything."""
PAUSES = Backoff(first_s=0.2, cap_s=10.0)
"""Pauses before a batch is sent again, by the number of its failures."""
_NOTHING = Line(0.0, 0.0)


class Lane:
    """Serves one remote model, on the event loop of the processor's thread.

    The breaker decides whether batches are sent at all; while it is open, a probe (a short text, or a grey image) is
    sent from time to time. So every batch is sent to a remote that has embedded something since it last failed for
    all, and what fails then again and again is the fault of the batch.

    Args:
        queue: the model's queue.
        exchange: sends requests.
        outcomes: settles items.
        in_flight: the registry of unsettled batches.
    """

    def __init__(self, queue: ModelQueue, exchange: Exchange, outcomes: Outcomes, in_flight: InFlightBatches) -> None:
        self.queue = queue
        self.model = exchange.model
        self._exchange = exchange
        self._outcomes = outcomes
        self._in_flight = in_flight
        self._halving = Halving(outcomes, in_flight)
        self._breaker = Breaker(Outage(f"the remote model {queue.name} at {self.model.url}"))
        self._requests: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._errors: Counter[str] = Counter()
        self._retries = 0
        self._failing = FailureRate()
        self._refusals = 0
        self._probe_began: float | None = None
        self.hungry = False
        """True while it sleeps until something is submitted."""
        queue.max_batch = queue.max_batch or MAX_BATCH
        queue.open(Plan(queue.name, queue.kind, 0, _NOTHING, _NOTHING, MAX_ITEMS, None, 0.0))

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            now = time.monotonic()
            if self._breaker.is_open or self._breaker.wait_s(now) > 0:
                self.queue.refuse_unwanted()
            wait = self._next_in(now)
            if wait > 0:
                await self._sleep(wait)
            elif self._breaker.is_open:
                self._start(self._probe())
            elif (batch := self._next_batch()) is not None:
                self._start(self._send(batch))

    def notice(self) -> None:
        """Wake it, on its event loop."""
        self._wake.set()

    async def stop(self, grace_s: float) -> None:
        """Let requests in flight end within the grace; abandon the others."""
        if self._requests:
            await asyncio.wait(self._requests, timeout=grace_s)
        await end(self._requests)

    def stats(self) -> ModelStats:
        """Return a snapshot of the counters."""
        remote = RemoteStats(
            self.model.url,
            len(self._requests),
            self.model.config.max_requests,
            dict(self._errors),
            self._retries,
            self._breaker.is_open and not self._breaker.outage.health.ok,
            self._problem(),
        )
        return replace(self.queue.stats(0.0, 0.0), device_s=0.0, planned_bytes=0, remote=remote)

    def _problem(self) -> str:
        health, began, limit = self._breaker.outage.health, self._probe_began, self.model.config.health_timeout_s
        if not health.ok:
            return health.error
        if began is not None and time.monotonic() - began > limit:
            return f"no answer to a probe for more than {limit:g} s (health_timeout_s)"
        return ""

    def _next_in(self, now: float) -> float:
        """Return the seconds until the next probe or batch may be sent; `TURN_S` if something has to happen first."""
        most = 1 if self._breaker.is_open else self.model.config.max_requests
        if len(self._requests) >= most:
            return TURN_S
        wait = self._breaker.wait_s(now)
        if self._breaker.is_open or wait > 0:
            return min(wait, TURN_S)
        due = self.queue.due_in(now)
        return TURN_S if due is None else min(due, TURN_S)

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        self.hungry = not self._breaker.is_open
        # Checked after the flag is set, so that any later submission wakes it.
        if self._next_in(time.monotonic()) > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self.hungry = False

    def _start(self, request: Any) -> None:  # noqa: ANN401 - a coroutine
        task: asyncio.Task[None] = asyncio.create_task(request)
        self._requests.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        self._wake.set()

    def _next_batch(self) -> Batch | None:
        batch = self.queue.next_batch(time.monotonic())
        if batch is None or not self._in_flight.take(batch):
            return None
        if not batch.deliveries:
            self._in_flight.release(batch)
            return None
        groups = list(_requests_of(batch.deliveries))
        if len(groups) == 1:
            return batch
        self._halving.divide(self.queue, batch, [Batch(batch.model, batch.kind, group) for group in groups])
        return None

    async def _probe(self) -> None:
        self._probe_began = time.monotonic()
        try:
            await self._embed([harmless_item(self.model.recipe(), self.model.kind)])
        except RefusedError as error:
            if self.model.base64:
                self.model.base64 = False  # the next probe asks for numbers
                self._start(self._probe())
                return
            self._failed(OutageError("status", f"it refuses a harmless probe: {error}"))
        except OutageError as error:
            self._failed(error)
        else:
            self._succeeded()
        finally:
            self._probe_began = None

    async def _send(self, batch: Batch) -> None:
        started = time.monotonic()
        try:
            rows = await self._embed([delivery.prepared for delivery in batch.deliveries])
        except RefusedError as error:
            self._refused(batch, error)
        except OutageError as error:
            self._failed(error)
            self._put_off(batch, error)
        else:
            self._succeeded()
            if _tells_of_its_remote(batch):
                self._failing.add(0)
            self._settle(batch, rows, started)

    async def _embed(self, items: Sequence[Any]) -> NDArray[np.float32]:
        try:
            return await self._exchange.embed(items)
        except (RefusedError, OutageError) as error:
            self._errors[error.kind if isinstance(error, OutageError) else "refused"] += 1
            raise
        except Exception as error:
            logger.exception("A request to the remote model %s failed unforeseen", self.queue.name)
            raise OutageError("broken", f"unforeseen: {in_one_line(error)}") from error

    def _settle(self, batch: Batch, rows: NDArray[np.float32], started: float) -> None:
        seconds = time.monotonic() - started
        claimed = batch.claim()
        self.queue.ran(batch, seconds)
        if claimed:
            self._outcomes.embedded(batch, Vectors(rows, len(batch.deliveries), self.model.dim), started, seconds)
        self._in_flight.release(batch)

    def _succeeded(self) -> None:
        self._refusals = 0
        self._breaker.succeeded()

    def _failed(self, error: OutageError) -> None:
        self._breaker.failed(str(error), error.retry_after_s)

    def _refused(self, batch: Batch, error: RefusedError) -> None:
        if len(batch.deliveries) > 1:
            self._halving.split(self.queue, batch)
            return
        self._refusals += 1
        if self._refusals >= REFUSALS:
            self._breaker.trip(f"it refuses every item: {error}")
            self.queue.retry(batch)
            return
        code: ErrorCode = "too_large" if error.too_large else "poisoned" if batch.split else "model_failed"
        self._halving.answer(batch, TaskError(code, f"the remote model refuses this item: {error}"))

    def _put_off(self, batch: Batch, error: OutageError) -> None:
        """Schedule another attempt; split what fails although its remote works."""
        self._retries += 1
        if not error.everyone:
            if _tells_of_its_remote(batch):
                self._failing.add(1)
            batch.attempts += 1
        batch.not_before = time.monotonic() + PAUSES.delay(max(1, batch.attempts))
        if len(batch.deliveries) > 1 and batch.attempts >= TRIES_TOGETHER:
            self._halving.split(self.queue, batch)
        elif len(batch.deliveries) > 1 or batch.attempts < self._failing.tries():
            self.queue.retry(batch)
        else:
            code: ErrorCode = "poisoned" if batch.split else "model_failed"
            detail = f"the remote model failed {batch.attempts} times on this item, and not on others: {error}"
            self._halving.answer(batch, TaskError(code, detail))


class FailureRate:
    """Share of the requests that fail, over the last fifty or so."""

    def __init__(self) -> None:
        self.share = 0.0
        self._seen = 10  # as if ten had gone well, so that the first failures do not count as a rule

    def add(self, failed: int) -> None:
        """Count one request."""
        self._seen += 1
        self.share += max(0.02, 1 / self._seen) * (failed - self.share)

    def tries(self) -> int:
        """Return the number of failures in a row that are no coincidence at this share."""
        share = min(max(self.share, 0.01), 0.99)
        return max(TRIES_ALONE, math.ceil(math.log(CHANCE) / math.log(share)))


def _tells_of_its_remote(batch: Batch) -> bool:
    """True unless the batch is a lone item that has failed often and may be the cause itself.

    Its failures do not count towards the remote's share, so its success must not either: the share would be too low,
    and innocent items be blamed.
    """
    return len(batch.deliveries) > 1 or batch.attempts < TRIES_TOGETHER


def _requests_of(deliveries: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    """Divide items into those of one request each: of the same prompt, and not too many bytes."""
    groups: dict[Any, list[Delivery]] = {}
    sizes: Counter[Any] = Counter()
    for delivery in deliveries:
        prompt, size = delivery.prepared.prompt_name, delivery.prepared.array.nbytes  # type: ignore[attr-defined]
        if sizes[prompt] and sizes[prompt] + size > REQUEST_BYTES:
            yield groups.pop(prompt)
            sizes[prompt] = 0
        groups.setdefault(prompt, []).append(delivery)
        sizes[prompt] += size
    yield from groups.values()
