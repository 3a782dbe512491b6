"""One task on its way down the river."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from legit_embedding.encoding import ENCODING, encode_finite
from legit_embedding.engine.delivery import Delivery
from legit_embedding.errors import GivenBackError, TaskError
from legit_embedding.messages import Embedded, Result, Timings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from legit_embedding.config import Kind
    from legit_embedding.messages import Address, HandOff, Origin, TaskObject, Written
    from legit_embedding.telemetry.traces import Trace


logger = logging.getLogger(__name__)

_once = threading.Lock()
"""For all jobs: it is held for an instant."""
_LONGEST_CAUSE = 300


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What a prep-only worker ends with: a tensor in the hand-off directory, for another worker to embed."""

    path: Path
    model: str
    truncated: bool
    repaired: bool = False


Outcome: TypeAlias = "Written | HandedOver | GivenBackError"
Settled: TypeAlias = "Callable[[Outcome], None]"


class Job(Delivery):
    """A task from its submission to its confirmed answer.

    It is settled exactly once: with a `Written` answer (good or bad), a `HandedOver` tensor, or a `GivenBackError`.
    The first answer counts, whatever else is reported later; an answer that cannot be passed on gives the task back.
    """

    __slots__ = ("_answer", "_settled", "address", "attempts", "held_up", "kind", "origin", "prep_s", "trace", "work")

    _answer: Callable[[Job, Result], None] | None
    _settled: Settled | None

    kind: Kind
    work: TaskObject | HandOff | None
    """What there is to do; None for a task that does not fit and is only answered."""
    held_up: Callable[[], bool] | None
    """Whether what it last waited for is still in use by others; None while it has not waited."""
    trace: Trace | None
    """Where its spans are kept; None unless ``telemetry.traces`` is on."""

    def __init__(
        self, address: Address, origin: Origin, answer: Callable[[Job, Result], None], settled: Settled
    ) -> None:
        self.address = address
        self.origin = origin
        self.attempts = 0
        self.prep_s = 0.0
        self.work = None
        self.trace = None
        self.cancelled = None
        self.held_up = None
        self.deadline = None
        self._answer = answer
        self._settled = settled

    def take(self, work: TaskObject | HandOff, expires: float | None = None) -> None:
        """Take the valid task on; `expires` is the source's own deadline, in Unix seconds."""
        deadlines = [work.deadline / 1000] if work.deadline is not None else []
        self.work = work
        self.deadline = min([*deadlines, *([expires] if expires is not None else [])], default=None)

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
        self._pass_on(Result(self.address, self.origin, outcome, timings))

    def failed(self, error: TaskError) -> None:
        """Pass a bad answer on to the sink."""
        self._pass_on(Result(self.address, self.origin, error, Timings(prep_ms=_ms(self.prep_s))))

    def crashed(self, doing: str, error: BaseException) -> None:
        """Answer what nobody foresaw, and say so in the log."""
        logger.error("Task %r: %s failed unforeseen", self.address.task_id, doing, exc_info=error)
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_CAUSE]
        self.failed(TaskError("model_failed", f"{doing} failed: {cause}"))

    def given_back(self) -> None:
        """Leave the task to its source, unanswered."""
        self.settle(GivenBackError("the worker stopped before the task was embedded"))

    def settle(self, outcome: Outcome) -> None:
        """Tell the source how the task ended; only the first time counts."""
        with _once:
            settled, self._settled = self._settled, None
            self._answer = None
        if settled is not None:
            settled(outcome)

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
        return Embedded(
            kind=self.kind,
            model=self.model,
            dim=len(vector),
            encoding=ENCODING,
            embedding=encode_finite(vector),
            truncated=self.prepared.truncated,
            repaired=self.prepared.repaired,
        )

    def _pass_on(self, result: Result) -> None:
        with _once:
            answer, self._answer = self._answer, None
        if answer is None:
            return
        try:
            answer(self, result)
        except Exception as error:
            logger.exception("Task %r: its answer could not be passed on; it is given back", self.address.task_id)
            self.settle(GivenBackError(f"the task's answer could not be passed on: {type(error).__name__}"))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
