"""One task on its way down the river."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from legit_embedding.encoding import ENCODING, encode_finite
from legit_embedding.engine.delivery import Delivery
from legit_embedding.errors import GivenBackError, TaskError, in_one_line
from legit_embedding.models.vectors import shortened
from legit_embedding.pipeline.task_counts import UNKNOWN
from legit_embedding.wire.messages import Address, Embedded, Result, Timings

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.config import Kind
    from legit_embedding.models.tower import Tower
    from legit_embedding.pipeline.caller import Caller, HandedOver, Sink, Trace
    from legit_embedding.wire.messages import HandOff, Origin, TaskObject, Written


logger = logging.getLogger(__name__)

_once = threading.Lock()
"""For all jobs: it is held for an instant."""


class Book(Protocol):
    """Keeps account of jobs."""

    def answered(self, job: Job, written: Written) -> None:
        """A job's answer is confirmed; its caller is told next."""

    def unwritten(self, job: Job, reason: str) -> None:
        """A job's answer is written nowhere: give it back, in good time."""

    def closed(self) -> None:
        """A job's caller has been told."""


class Job(Delivery):
    """A task from its submission to its confirmed answer.

    The way back is read top to bottom: a processor calls `done` or `failed`; the sink is given the answer, and calls
    `written`; the caller is told, and acknowledges. The first answer counts, whatever else is reported later, and the
    caller is told once; an answer that cannot be passed on gives the task back.
    """

    __slots__ = (
        "_book",
        "_caller",
        "_is_answered",
        "_is_closed",
        "_sink",
        "address",
        "attempts",
        "dimensions",
        "held_up",
        "kind",
        "origin",
        "prep_s",
        "tower",
        "trace",
        "work",
    )

    kind: Kind
    tower: Tower
    """What embeds it; `model` is the tower's queue."""
    dimensions: int | None
    """The length to which its vector is cut; None for the full one."""
    work: TaskObject | HandOff | None
    """What there is to do; None for a task that does not fit and is only answered."""
    held_up: Callable[[], bool] | None
    """Whether what it last waited for is still in use by others; None while it has not waited."""
    trace: Trace | None
    """Where its spans are kept; None unless ``telemetry.traces`` is on."""

    def __init__(self, origin: Origin, caller: Caller, sink: Sink, book: Book) -> None:
        self.address = Address(origin.id)
        self.origin = origin
        self.model = UNKNOWN
        self.attempts = 0
        self.prep_s = 0.0
        self.work = None
        self.trace = None
        self.cancelled = None
        self.held_up = None
        self.deadline = None
        self._caller = caller
        self._sink = sink
        self._book = book
        self._is_answered = False
        self._is_closed = False

    def take(self, work: TaskObject | HandOff, expires: float | None = None) -> None:
        """Take the valid task on; `expires` is the source's own deadline, in Unix seconds."""
        deadlines = [work.deadline / 1000] if work.deadline is not None else []
        self.work = work
        self.deadline = min([*deadlines, *([expires] if expires is not None else [])], default=None)

    def serve(self, tower: Tower) -> None:
        """Give the task to a model.

        Raises:
            TaskError: ``invalid_task`` where the model does not do what the task asks of it.
        """
        self.tower, self.model = tower, tower.queue
        self.dimensions = tower.dimensions(self.work.dimensions if self.work is not None else None)

    def check_deadline(self) -> None:
        """Refuse a task that is too late.

        Raises:
            TaskError: ``expired``.
        """
        if self.deadline is not None and time.time() > self.deadline:
            raise TaskError("expired", "deadline: the task reached the worker, or the device, after its deadline")

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
        """Pass a bad answer on to the sink."""
        self._answer(Result(self.address, self.origin, error, Timings(prep_ms=_ms(self.prep_s))))

    def crashed(self, doing: str, error: BaseException) -> None:
        """Answer what nobody foresaw, and say so in the log."""
        logger.error("Task %r: %s failed unforeseen", self.address.task_id, doing, exc_info=error)
        self.failed(TaskError("model_failed", f"{doing} failed: {in_one_line(error)}"))

    def given_back(self) -> None:
        """Leave the task to its caller, unanswered."""
        self.give_back("the worker stopped before the task was embedded")

    def give_back(self, reason: str) -> None:
        """As `given_back`, for another reason."""
        self._close(self._caller.given_back, GivenBackError(reason))

    def handed_over(self, handed: HandedOver) -> None:
        """Another worker embeds what was prepared here."""
        self._close(self._caller.handed_over, handed)

    def written(self, written: Written) -> None:
        """The sink's word that the answer is confirmed."""
        try:
            self._book.answered(self, written)
        except Exception:
            logger.exception("Task %r is answered; what is to be done then failed", self.address.task_id)
        finally:
            self._close(self._caller.written, written)

    def unwritten(self, reason: str) -> None:
        """The sink's word that the answer is written nowhere."""
        self._book.unwritten(self, reason)

    def task_object(self) -> dict[str, Any]:
        """The task as far as it was understood, for whoever keeps what could not be answered."""
        if self.work is None:
            return {"task_id": self.address.task_id}
        return self.work.model_dump(exclude_defaults=True)

    def _outcome(self, vector: NDArray[np.float32], queue_s: float, compute_s: float) -> Embedded | TaskError:
        if self.trace is not None:
            self.trace.computed(self.prep_s, queue_s, compute_s)
        if self.cancelled is not None:
            return TaskError(self.cancelled, "the task was revoked while it was on the device")
        if self.dimensions is not None:
            vector = shortened(vector, self.dimensions, normalize=self.tower.config.normalize)
        return Embedded(
            kind=self.kind,
            model=self.tower.model,
            dim=len(vector),
            encoding=ENCODING,
            embedding=encode_finite(vector),
            truncated=self.prepared.truncated,
            repaired=self.prepared.repaired,
            revision=self.tower.revision,
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
        """Tell the caller how the task ended; only the first time counts."""
        with _once:
            is_first, self._is_closed = not self._is_closed, True
        if not is_first:
            return
        try:
            tell(outcome)
        except Exception:
            logger.exception("The source of task %r failed when told how it ended", self.address.task_id)
        finally:
            self._book.closed()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
