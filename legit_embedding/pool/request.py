"""Celery's request of an embedding task: one that can be withdrawn while it waits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import Ignore
from celery.platforms import signals as platform_signals
from celery.worker.request import Request
from celery.worker.state import task_ready

from legit_embedding import runtime
from legit_embedding.errors import TaskError
from legit_embedding.messages import Origin

if TYPE_CHECKING:
    from billiard.einfo import ExceptionInfo
    from kombu.message import Message

    from legit_embedding.errors import ErrorCode
    from legit_embedding.pool.job import PoolJob


class Withdrawn(Ignore):
    """Ends the body of a task that was revoked, or that expired, while it waited.

    The tracer stores nothing for it; the request announces it, after the task has been answered on its stream.
    """

    def __init__(self, reason: ErrorCode) -> None:
        super().__init__(reason)
        self.reason = reason


class EmbeddingRequest(Request):
    """Revoking and expiring end in an answer on the task's result stream, and only then in an acknowledgement."""

    _signum: int | None = None

    def __init__(self, message: Message, *, body: Any = None, decoded: bool = False, **options: Any) -> None:  # noqa: ANN401
        # What `as_sent` has decoded is not decoded again.
        if not decoded and isinstance(message.payload, tuple):
            body, decoded = message.payload, True
        super().__init__(message, body=body, decoded=decoded, **options)

    def withdraw(self, signum: int | None = None) -> None:
        """Take the task out of prep or the accumulator; on the device, its vector is dropped."""
        self._signum = signum
        job = self._pool_job()
        if job is not None:
            job.withdraw()

    def terminate(self, pool: Any, signal: int | str | None = None) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Nothing has to be killed for it."""
        self.withdraw(platform_signals.signum(signal or "TERM"))

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: ANN401
        """Celery's own, save that a withdrawn task is announced as revoked."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, Withdrawn):
            task_ready(self)
            expired = error.reason == "expired"
            return super()._announce_revoked(error.reason, self._signum is not None, self._signum, expired)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _announce_revoked(self, reason: str, terminated: bool, signum: int | None, expired: bool) -> None:
        """Called for a task that was not started: answer it, and announce and acknowledge it when that is confirmed."""
        self._already_revoked = True
        if terminated or not runtime.is_running():
            super()._announce_revoked(reason, terminated, signum, expired)
            return
        code: ErrorCode = "expired" if expired else "revoked"
        error = TaskError(code, f"the task was {code} before it was started")
        announce = super()._announce_revoked
        raw = self.args[0] if self.args else None
        tasks = raw if isinstance(raw, list) else [raw]
        waiting = set(range(len(tasks)))

        def answered(index: int, _: object) -> None:
            waiting.discard(index)
            if not waiting:
                announce(reason, terminated, signum, expired)

        for index, each in enumerate(tasks):
            source = f"{self.id}:{index}" if isinstance(raw, list) else self.id
            origin = Origin("celery", source)
            runtime.current().refuse(each, origin, error, partial(answered, index))

    def _pool_job(self) -> PoolJob | None:
        reference = self._apply_result
        job: PoolJob | None = reference() if reference is not None else None
        return job
