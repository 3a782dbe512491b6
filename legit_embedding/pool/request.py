"""Celery's request for an embedding task, which can be withdrawn while it waits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import Ignore, InvalidTaskError
from celery.platforms import signals as platform_signals
from celery.worker.request import Request
from celery.worker.state import task_ready

from legit_embedding import process
from legit_embedding.broker.settlement import note_answers
from legit_embedding.errors import TaskError, in_one_line
from legit_embedding.pipeline.caller import OnOutcome

if TYPE_CHECKING:
    from billiard.einfo import ExceptionInfo
    from kombu.message import Message

    from legit_embedding.errors import ErrorCode
    from legit_embedding.pool.task_run import PoolJob


class Withdrawn(Ignore):
    """Ends the body of a task that was revoked or has expired while it waited.

    The tracer stores no result for it; the request announces it after the task has been answered on its stream.
    """

    def __init__(self, reason: ErrorCode) -> None:
        super().__init__(reason)
        self.reason = reason


class EmbeddingRequest(Request):
    """A request whose revocation or expiry is answered on the task's result stream and only then acknowledged."""

    _signum: int | None = None

    def __init__(self, message: Message, **options: Any) -> None:  # noqa: ANN401 - Celery's signature
        try:
            super().__init__(message, **options)
            args, kwargs, embed = self._payload
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # Celery passes this to `on_invalid_task`; any other exception would end the worker.
            reason = f"message: {in_one_line(error)}"
            raise InvalidTaskError(reason) from error
        if not isinstance(args, list | tuple):
            reason = f"args: expected a list, got one of type {type(args).__name__}"
            raise InvalidTaskError(reason)
        if kwargs and not isinstance(kwargs, dict):
            reason = f"kwargs: expected an object, got one of type {type(kwargs).__name__}"
            raise InvalidTaskError(reason)
        # The tracer would otherwise decode the message a second time.
        # PHP encodes an empty map as []; and Python would bind an unknown keyword `self` to the task itself.
        self._args, self._kwargs = args, {name: value for name, value in dict(kwargs or {}).items() if name != "self"}
        self._request_dict |= {"args": self._args, "kwargs": self._kwargs}
        self._body, self._content_type = (self._args, self._kwargs, embed), None

    def withdraw(self, signum: int | None = None) -> None:
        """Remove the task from prep or the accumulator; if it is on the device, its vector is dropped."""
        self._signum = signum
        job = self._pool_job()
        if job is not None:
            job.withdraw()

    def terminate(self, pool: Any, signal: int | str | None = None) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Withdraw the task; nothing has to be killed."""
        self.withdraw(platform_signals.signum(signal or "TERM"))

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: ANN401
        """As in Celery, except that a withdrawn task is announced as revoked."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, Withdrawn):
            task_ready(self)
            expired = error.reason == "expired"
            return super()._announce_revoked(error.reason, self._signum is not None, self._signum, expired)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _announce_revoked(self, reason: str, terminated: bool, signum: int | None, expired: bool) -> None:
        """Answer a task that was not started, then announce and acknowledge it when the answer is confirmed."""
        self._already_revoked = True
        if terminated or not process.is_running():
            super()._announce_revoked(reason, terminated, signum, expired)
            return
        code: ErrorCode = "expired" if expired else "revoked"
        error = TaskError(code, f"the task was {code} before it was started")
        announce = super()._announce_revoked
        call = self._task.read_call(self.args, self.kwargs)
        waiting = set(range(len(call.raws)))

        def answered(index: int, outcome: object) -> None:
            note_answers(self.message, [outcome])
            waiting.discard(index)
            if not waiting:
                announce(reason, terminated, signum, expired)

        if not waiting:
            announce(reason, terminated, signum, expired)
        for index, (raw, origin) in enumerate(zip(call.raws, call.origins(self.id), strict=True)):
            process.current().refuse(raw, origin, error, OnOutcome(partial(answered, index)))

    def _pool_job(self) -> PoolJob | None:
        reference = self._apply_result
        job: PoolJob | None = reference() if reference is not None else None
        return job
