"""One task on its way through the pipeline."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from legit_embedding.encoding import encode_finite
from legit_embedding.engine.delivery import Delivery
from legit_embedding.errors import GivenBackError, TaskError, in_one_line
from legit_embedding.models.vectors import shortened
from legit_embedding.pipeline.task_counts import UNKNOWN
from legit_embedding.wire.result import Embedded, Result, Timings
from legit_embedding.wire.task import Address

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.config import Kind
    from legit_embedding.encoding import Encoded
    from legit_embedding.models.tower import Tower
    from legit_embedding.pipeline.caller import Caller, HandedOver, Sink, Trace
    from legit_embedding.wire.result import Origin, Written
    from legit_embedding.wire.task import HandOff, TaskObject, TokenIds


logger = logging.getLogger(__name__)

_once = threading.Lock()
"""Shared by all jobs, since it is only held briefly."""


class Book(Protocol):
    """Bookkeeping of jobs."""

    def answered(self, job: Job, written: Written) -> None:
        """Record a job's confirmed answer; its caller is told next."""

    def unwritten(self, job: Job, reason: str) -> None:
        """Give back a job whose answer could not be written anywhere, after a delay."""

    def closed(self, job: Job) -> None:
        """Record that a job's caller has been told."""


class Job(Delivery):
    """A task from its submission to its confirmed answer.

    The methods follow the order of the way back: a processor calls `done` or `failed`; the sink receives the answer and
    calls `written`; the caller is told, and acknowledges. Only the first answer counts, and the caller is told once; if
    an answer cannot be passed on, the task is given back.
    """

    __slots__ = (
        "_book",
        "_caller",
        "_is_answered",
        "_is_closed",
        "_sink",
        "address",
        "attempts",
        "cache_key",
        "content",
        "dimensions",
        "encoding",
        "held_up",
        "interactive",
        "kind",
        "origin",
        "prep_s",
        "tower",
        "trace",
        "work",
    )

    kind: Kind
    tower: Tower
    """The tower that embeds it; `model` is the tower's queue."""
    dimensions: int | None
    """The length to which its vector is truncated; None for the full length."""
    encoding: str
    """The encoding of the answer's vector."""
    work: TaskObject | HandOff | TokenIds | None
    """The valid task; None for an invalid one, which is only answered."""
    held_up: Callable[[], bool] | None
    """Returns whether the resource it last waited for is still in use; None if it has not waited."""
    trace: Trace | None
    """Collects its spans; None unless ``telemetry.traces`` is on."""

    def __init__(self, origin: Origin, caller: Caller, sink: Sink, book: Book) -> None:
        self.address = Address(origin.id)
        self.origin = origin
        self.model = UNKNOWN
        self.attempts = 0
        self.cache_key = ""
        self.content = b""
        self.prep_s = 0.0
        self.work = None
        self.trace = None
        self.cancelled = None
        self.held_up = None
        self.deadline = None
        self.interactive = False
        self._caller = caller
        self._sink = sink
        self._book = book
        self._is_answered = False
        self._is_closed = False

    def take(self, work: TaskObject | HandOff | TokenIds, expires: float | None = None) -> None:
        """Set the valid task; `expires` is the source's own deadline, in Unix seconds."""
        self.work = work
        self.interactive = work.priority == "interactive"
        self.deadline = expires
        if work.deadline is not None:
            own = work.deadline / 1000
            self.deadline = own if expires is None else min(own, expires)

    def serve(self, tower: Tower) -> None:
        """Assign the task to a model.

        Raises:
            TaskError: ``invalid_task`` if the model does not support what the task asks for.
        """
        self.tower, self.model = tower, tower.queue
        self.dimensions = tower.dimensions(self.work.dimensions if self.work is not None else None)
        self.encoding = (self.work.encoding if self.work is not None else None) or tower.config.encoding

    def check_deadline(self) -> None:
        """Reject a task whose deadline has passed.

        Raises:
            TaskError: ``expired``.
        """
        if self.deadline is not None and time.time() > self.deadline:
            raise TaskError("expired", "deadline: the task reached the worker, or the device, after its deadline")

    def remembered(self, dim: int, encoded: Encoded) -> None:
        """Pass on, as the answer, an encoded vector that the content cache has kept."""
        outcome = self._cancelled() or replace(self._embedded(dim, encoded), cached=True, cache_key="")
        self._answer(Result(self.address, self.origin, outcome, Timings(prep_ms=_ms(self.prep_s))))

    def done(self, vector: NDArray[np.float32], queue_s: float, compute_s: float) -> None:
        """Encode the vector and pass the answer on to the sink."""
        try:
            outcome = self._outcome(vector, queue_s, compute_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, the task is answered
            self.crashed("encoding the vector", error)
            return
        timings = Timings(_ms(self.prep_s), _ms(queue_s), _ms(compute_s))
        self._answer(Result(self.address, self.origin, outcome, timings))

    def failed(self, error: TaskError) -> None:
        """Pass an error on to the sink as the answer."""
        self._answer(Result(self.address, self.origin, error, Timings(prep_ms=_ms(self.prep_s))))

    def crashed(self, doing: str, error: BaseException) -> None:
        """Answer with an unforeseen error, and log it."""
        logger.error("Task %r: %s failed unforeseen", self.address.task_id, doing, exc_info=error)
        self.failed(TaskError("model_failed", f"{doing} failed: {in_one_line(error)}"))

    def given_back(self) -> None:
        """Give the task back to its caller, unanswered, because the worker is stopping."""
        self.give_back("the worker stopped before the task was embedded")

    def give_back(self, reason: str) -> None:
        """Give the task back for a reason other than that of `given_back`."""
        self._close(self._caller.given_back, GivenBackError(reason))

    def handed_over(self, handed: HandedOver) -> None:
        """Report that another worker embeds the prepared item."""
        self._close(self._caller.handed_over, handed)

    def written(self, written: Written) -> None:
        """Report the answer that the sink has confirmed."""
        try:
            self._book.answered(self, written)
        except Exception:
            logger.exception("Task %r is answered; what is to be done then failed", self.address.task_id)
        finally:
            self._close(self._caller.written, written)

    def unwritten(self, reason: str) -> None:
        """Report that the sink could not write the answer anywhere."""
        self._book.unwritten(self, reason)

    def task_object(self) -> dict[str, Any]:
        """The task as far as it was understood, for the dead letter."""
        if self.work is None:
            return {"task_id": self.address.task_id}
        return self.work.model_dump(exclude_defaults=True)

    def _outcome(self, vector: NDArray[np.float32], queue_s: float, compute_s: float) -> Embedded | TaskError:
        if self.trace is not None:
            self.trace.computed(self.prep_s, queue_s, compute_s)
        if (cancelled := self._cancelled()) is not None:
            return cancelled
        if self.dimensions is not None:
            vector = shortened(vector, self.dimensions, normalize=self.tower.config.normalize)
        try:
            encoded = encode_finite(vector, self.encoding)
        except ValueError as error:
            return TaskError("non_finite", f"encoding: the vector does not fit {self.encoding}: {error}")
        return self._embedded(len(vector), encoded)

    def _cancelled(self) -> TaskError | None:
        if self.cancelled is None:
            return None
        return TaskError(self.cancelled, "the task was revoked while it was on the device")

    def _embedded(self, dim: int, encoded: Encoded) -> Embedded:
        return Embedded(
            kind=self.kind,
            model=self.tower.model,
            dim=dim,
            encoding=self.encoding,
            embedding=encoded.text,
            truncated=self.prepared.truncated,
            repaired=self.prepared.repaired,
            revision=self.tower.revision,
            scale=encoded.scale,
            cache_key=self.cache_key,
            cache_s=self.tower.config.cache_s,
            windows=len(self.prepared.windows),
        )

    def _answer(self, result: Result) -> None:
        with _once:
            is_first, self._is_answered = not (self._is_answered or self._is_closed), True
        if not is_first:
            return
        try:
            self._sink.put(self, result)
        except Exception as error:
            logger.exception("Task %r: its answer could not be passed on; it is given back", self.address.task_id)
            self.give_back(f"the task's answer could not be passed on: {type(error).__name__}")

    def _close(self, tell: Callable[[Any], None], outcome: Written | HandedOver | GivenBackError) -> None:
        """Tell the caller how the task ended; later calls have no effect."""
        with _once:
            is_first, self._is_closed = not self._is_closed, True
        if not is_first:
            return
        try:
            tell(outcome)
        except Exception:
            logger.exception("The source of task %r failed when told how it ended", self.address.task_id)
        finally:
            self._book.closed(self)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
