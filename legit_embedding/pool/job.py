"""One task in the pool's hands."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.utils.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger(__name__)


class PoolJob:
    """Runs one request and reports to it, whatever the task does.

    Celery keeps only a weak reference to what the pool returns, so the pool holds the job until it is finished.
    """

    def __init__(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        callback: Callable[..., Any] | None,
        accept_callback: Callable[..., Any] | None,
        error_callback: Callable[..., Any] | None,
        finished: Callable[[PoolJob], None],
    ) -> None:
        self._target = target
        self._args = args
        self._kwargs = kwargs
        self._callback = callback
        self._accept_callback = accept_callback
        self._error_callback = error_callback
        self._finished = finished

    def run(self) -> None:
        """Accept, trace, and report. Never raises."""
        try:
            self._accept()
            report = self._trace()
            report()
        except BaseException:
            # Nothing above this would see it.
            logger.exception("A request could not be reported on")
        finally:
            self._finished(self)

    def terminate(self, signal: int | None = None) -> None:
        """A thread cannot be killed; the request has already been announced as revoked."""

    def _accept(self) -> None:
        if self._accept_callback is not None:
            self._accept_callback(os.getpid(), time.monotonic())

    def _trace(self) -> Callable[[], object]:
        try:
            outcome = self._target(*self._args, **self._kwargs)
        except BaseException as error:  # noqa: BLE001 - SystemExit and MemoryError are a task's failures too
            return self._failure(error)
        return lambda: self._callback and self._callback(outcome)

    def _failure(self, error: BaseException) -> Callable[[], object]:
        if not isinstance(error, Exception) or isinstance(error, MemoryError):
            # Celery's own handler would raise these again instead of acknowledging; on other pools they end a child
            # process, and are reported as this.
            error = WorkerLostError(f"The task raised {error!r}").with_traceback(error.__traceback__)
        einfo = ExceptionInfo((type(error), error, error.__traceback__))
        return lambda: self._error_callback and self._error_callback(einfo)
