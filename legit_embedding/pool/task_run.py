"""The run of one task in the pool."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery.exceptions import Ignore, SoftTimeLimitExceeded
from celery.utils.log import get_logger

from legit_embedding.pool.interrupt import Interruptible
from legit_embedding.pool.time_limits import Clock, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.message import Message

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The request's own handlers, as Celery passes them to a pool."""

    accept: Callable[..., Any] | None = None
    success: Callable[..., Any] | None = None
    failure: Callable[..., Any] | None = None
    timeout: Callable[..., Any] | None = None


class StandIn(Exception):  # noqa: N818 - it is only ever seen as the error it stands for
    """Replaces an error that Celery's own handler would raise again instead of acknowledging; looks the same."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(*error.args)
        self._repr = repr(error)

    def __repr__(self) -> str:
        return self._repr


class PoolJob:
    """Runs one request and reports to it exactly once, whatever the task does.

    Celery keeps only a weak reference to what the pool returns, so the pool holds the job until it is finished.

    Args:
        target: Celery's tracer, already bound to its arguments.
        callbacks: the request's handlers.
        finished: called once, when the request has been reported on.
        limits: the task's time limits.
        clock: enforces the time limits.
        deferred: whether the task waits without a thread, and so can be withdrawn.
    """

    def __init__(
        self,
        target: Callable[[], Any],
        callbacks: Callbacks,
        finished: Callable[[PoolJob], None],
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        deferred: bool = False,
    ) -> None:
        self.deferred = deferred
        self.thread: threading.Thread | None = None
        self.interruption: Exception | None = None
        """The exception that the body of a deferred task raises when it is resumed."""
        self._target = target
        self._callbacks = callbacks
        self._request = getattr(callbacks.accept, "__self__", None)
        self._finished = finished
        self._limits = limits or Limits()
        self._clock = clock or Clock()
        self._body = Interruptible()
        self._lock = threading.Lock()
        self._overdue = False
        self._withdrawn = False
        self._withdrawals: list[Callable[[], None]] = []

    def __call__(self) -> None:
        """Call `run`."""
        self.run()

    def run(self) -> None:
        """Accept, trace and report. Never raises."""
        self.thread = threading.current_thread()
        report: Callable[[], Any] | None = None
        try:
            if not self._is_revoked():
                report = self._accepted()
                report()
        except BaseException:
            # No caller would handle it.
            logger.exception("A request could not be reported on")
        finally:
            self._forget_withdrawals()
            self._finished(self)

    def withdraw(self, interruption: Exception | None = None) -> None:
        """Withdraw a deferred task; its body then raises `interruption`, if one is given."""
        with self._lock:
            self._withdrawn = True
            self.interruption = interruption
            withdrawals, self._withdrawals = self._withdrawals, []
        for withdrawal in withdrawals:
            withdrawal()

    def on_withdraw(self, withdrawal: Callable[[], None]) -> None:
        """Call `withdrawal` when the task is withdrawn, or at once if it already is."""
        with self._lock:
            if not self._withdrawn:
                self._withdrawals.append(withdrawal)
                return
        withdrawal()

    def _forget_withdrawals(self) -> None:
        """Let go of the embeddings, which refer to this job in turn.

        Images and answers would stay in memory until Python looks for such cycles, thousands of tasks later.
        """
        with self._lock:
            self._withdrawals.clear()

    def terminate(self, signal: int | None = None) -> None:
        """Do nothing at a cold shutdown: a thread cannot be killed, and the message stays unacknowledged."""

    @property
    def message(self) -> Message | None:
        """The task's message; None for a job that did not come from Celery's worker."""
        return self._request.message if self._request is not None else None

    @property
    def delivery_tag(self) -> str | None:
        """The broker's tag of the task's message; None if it has none."""
        return self.message.delivery_tag if self.message is not None else None

    def _is_revoked(self) -> bool:
        # Celery checks on arrival; the task may have been revoked or have expired while it waited for a thread.
        return self._request is not None and self._request.revoked()

    def _accepted(self) -> Callable[[], Any]:
        _call(self._callbacks.accept, os.getpid(), time.monotonic())
        if not self._limits:
            return self._trace()
        stop = self._clock.watch(self._limits, self._soft_limit_passed, self._hard_limit_passed)
        try:
            return self._trace()
        finally:
            stop()

    def _trace(self) -> Callable[[], Any]:
        try:
            with self._body:
                outcome = self._target()
        except BaseException as error:  # noqa: BLE001 - SystemExit and MemoryError are a task's failures too
            return self._failure(error)
        if self._overdue:
            return self._report_overdue if self.deferred else _nothing
        return lambda: _call(self._callbacks.success, _reportable(outcome))

    def _failure(self, error: BaseException) -> Callable[[], Any]:
        if self._overdue:
            return _nothing
        if not isinstance(error, Exception) or isinstance(error, MemoryError):
            # Celery's own handler would raise these again instead of acknowledging; on other pools they end a child
            # process, and are reported as WorkerLostError.
            error = WorkerLostError(f"The task raised {error!r}").with_traceback(error.__traceback__)
        einfo = ExceptionInfo((type(error), error, error.__traceback__))
        return lambda: _call(self._callbacks.failure, einfo)

    def _soft_limit_passed(self) -> None:
        _call(self._callbacks.timeout, True, self._limits.soft)
        if self.deferred:
            self.withdraw(SoftTimeLimitExceeded(self._limits.soft))
        else:
            self._body.interrupt(SoftTimeLimitExceeded)

    def _hard_limit_passed(self) -> None:
        self._overdue = True
        if self.deferred:
            # The answer on its stream comes first; the report follows when the body ends.
            self.withdraw(Ignore("the hard time limit"))
        elif self._body.interrupt(Ignore):
            # A thread cannot be killed: the task is reported on, and the thread is abandoned and replaced.
            self._report_overdue()
            self._finished(self)

    def _report_overdue(self) -> None:
        _call(self._callbacks.timeout, False, self._limits.hard)


def _call(callback: Callable[..., Any] | None, *args: object) -> None:
    if callback is not None:
        callback(*args)


def _reportable(outcome: Any) -> Any:  # noqa: ANN401 - the tracer's (failed, value, runtime)
    failed, value, runtime = outcome
    if failed:
        error = value.exception.exc if isinstance(value.exception, ExceptionWithTraceback) else value.exception
        if isinstance(error, (MemoryError, SystemExit, KeyboardInterrupt)):
            # The tracer has stored and signalled it already; only the acknowledgement is left.
            value.exception = StandIn(error)
    return failed, value, runtime


def _nothing() -> None:
    """Do nothing: the request has been reported on already."""
