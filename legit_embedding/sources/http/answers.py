"""The submission of one request's items, and the wait for their vectors."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from legit_embedding.encoding import ENCODING
from legit_embedding.errors import GivenBackError, TaskError
from legit_embedding.pipeline.admission import Terms
from legit_embedding.pipeline.caller import HandedOver, OnOutcome
from legit_embedding.sources.http.problems import HttpError, unavailable
from legit_embedding.wire.result import Embedded, Origin, Timings, Written
from legit_embedding.wire.task import TaskObject, TokenIds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.pipeline.caller import Caller
    from legit_embedding.pipeline.job import Job
    from legit_embedding.pipeline.pipeline import Pipeline
    from legit_embedding.sources.http.bodies import Item
    from legit_embedding.sources.http.holding import Hold

_AT_ONCE = 64
"""The number of items submitted before other requests have a turn: a few milliseconds of work."""


class Answers:
    """The items of one request in the pipeline.

    Args:
        pipeline: embeds the items.
        request_id: prefix of the items' task ids.
        items: the items; at least one.
        common: the fields of the task object that all items share.
        hold: released when the pipeline holds none of the items any more.
    """

    def __init__(
        self, pipeline: Pipeline, request_id: str, items: Sequence[Item], common: dict[str, object], hold: Hold
    ) -> None:
        self._pipeline = pipeline
        self._request_id = request_id
        self._items = items
        self._common = common
        self._hold = hold
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._lock = threading.Lock()
        self._left = len(items)
        self._outcomes: list[Written | HandedOver | GivenBackError | None] = [None] * len(items)
        self._jobs: list[Job] = []

    async def collect(self) -> list[Embedded]:
        """Submit the items and wait for all vectors.

        Raises:
            HttpError: the first item that failed, or 503 if the worker stops.
        """
        for number, item in enumerate(self._items):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
                if self._pipeline.phase != "running":
                    raise unavailable("stopping", "the worker stopped before all items were submitted")
            self._submit(number, item)
        await self._ready
        return [self._vector(number) for number in self._order()]

    def close(self) -> None:
        """Cancel the items whose vectors are not needed any more. Idempotent."""
        for job, outcome in zip(self._jobs, self._outcomes, strict=False):
            if outcome is None:
                self._pipeline.cancel(job, "revoked")
        for number in range(len(self._jobs), len(self._items)):
            if self._outcomes[number] is None:
                self._told(number, GivenBackError("the request ended before the item was submitted"))

    @property
    def timings(self) -> Timings:
        """The longest time that any item spent in each stage."""
        each = [outcome.result.timings for outcome in self._outcomes if isinstance(outcome, Written)]
        return Timings(
            max(one.prep_ms for one in each), max(one.queue_ms for one in each), max(one.compute_ms for one in each)
        )

    @property
    def tokens(self) -> int:
        """The number of tokens in the texts, special tokens and prompts included."""
        texts = (job.prepared for job, item in zip(self._jobs, self._items, strict=True) if item.kind == "text")
        return sum(sum(part.cost for part in text.windows) or text.cost for text in texts)

    def _submit(self, number: int, item: Item) -> None:
        task_id = f"{self._request_id}:{number}"
        # A response carries floats, however the model's results do.
        task = {"task_id": task_id, "encoding": ENCODING, **self._common, **item.fields}
        caller: Caller = OnOutcome(partial(self._told, number))
        terms = Terms(TokenIds if "token_ids" in item.fields else TaskObject, item.kind)
        self._jobs.append(self._pipeline.submit(task, Origin("http", task_id), caller, terms))

    def _told(self, number: int, outcome: Written | HandedOver | GivenBackError) -> None:
        """Note an outcome; called from any thread."""
        self._outcomes[number] = outcome
        with self._lock:
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self._hold.release()
        if is_last or _embedded(outcome) is None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._set_ready)

    def _set_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _order(self) -> list[int]:
        """Items that failed come first, so that `_vector` raises before one whose vector is still awaited."""
        failed = [n for n, outcome in enumerate(self._outcomes) if outcome is not None and _embedded(outcome) is None]
        return failed or list(range(len(self._items)))

    def _vector(self, number: int) -> Embedded:
        outcome = self._outcomes[number]
        if isinstance(outcome, GivenBackError):
            raise unavailable("stopping", str(outcome))
        if outcome is None or isinstance(outcome, HandedOver):
            raise unavailable("overloaded", "the item was not embedded here")
        answer = outcome.result.outcome
        if isinstance(answer, TaskError):
            raise HttpError.of(answer, self._items[number].param)
        return answer


def _embedded(outcome: Written | HandedOver | GivenBackError) -> Embedded | None:
    if isinstance(outcome, (GivenBackError, HandedOver)) or isinstance(outcome.result.outcome, TaskError):
        return None
    return outcome.result.outcome
