"""Bookkeeping of the pipeline: the number of tasks in flight, and the outcome of each."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError
from legit_embedding.pipeline.error_log import ErrorLog
from legit_embedding.pipeline.task_counts import TaskCounts
from legit_embedding.wire.task import HandOff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from legit_embedding.pipeline.held_tasks import HeldTasks
    from legit_embedding.pipeline.job import Job
    from legit_embedding.pipeline.parking import Parking
    from legit_embedding.prep.handoff import HandOffDirectory
    from legit_embedding.wire.result import Written


class Accounts:
    """Counts jobs from the moment they are accepted until their callers are told. Thread-safe.

    Args:
        models: the queues of the registry.
        handoffs: the directory of other workers' tensors, which are removed when their vectors are written.
        parking: delays tasks whose answers could not be written: given back at once, they would return at once.
        holds: what is held, by the kind of the jobs' origins; those of other kinds have no such bound.
        on_closed: called from any thread when fewer jobs are in flight; must be quick.
    """

    def __init__(
        self,
        models: Iterable[str],
        handoffs: HandOffDirectory,
        parking: Parking,
        holds: Mapping[str, HeldTasks],
        on_closed: Callable[[], None],
    ) -> None:
        self.counts = TaskCounts(models)
        self._errors = ErrorLog()
        self._handoffs = handoffs
        self._parking = parking
        self._holds = holds
        self._on_closed = on_closed
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # which takes the lock in Python: twice as slow
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """The number of tasks accepted and not yet closed."""
        return self._in_flight

    def opened(self, jobs: Sequence[Job]) -> None:
        """Count accepted tasks of one source and one model, which is known by now if it ever is."""
        if (hold := self._holds.get(jobs[0].origin.kind)) is not None:
            hold.opened(jobs[0].model, len(jobs))
        with self._lock:
            self._in_flight += len(jobs)

    def answered(self, job: Job, written: Written) -> None:
        """Record a task's confirmed answer."""
        outcome = written.result.outcome
        if isinstance(job.work, HandOff) and not isinstance(outcome, TaskError):
            self._handoffs.remove(job.work.path)
        self.counts.answered(job.model, written.result)
        if job.trace is not None:
            job.trace.end(job.address.task_id, job.model, outcome)
        if isinstance(outcome, TaskError):
            self._errors.tell(outcome, written.result.address.task_id, job.model)

    def unwritten(self, job: Job, reason: str) -> None:
        """Give a task back, after a delay, whose answer could not be written anywhere."""
        self._parking.put(partial(job.give_back, f"the answer is written nowhere: {reason}"))

    def closed(self, job: Job) -> None:
        """Count out a task whose caller has been told."""
        if (hold := self._holds.get(job.origin.kind)) is not None:
            hold.closed(job.model)
        with self._lock:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._changed.notify_all()
        self._on_closed()

    def wait_for_all(self, timeout: float | None) -> bool:
        """Wait until no task is in flight; False if the timeout came first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._in_flight == 0, timeout)
