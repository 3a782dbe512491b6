"""The base class of the embedding tasks."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from billiard.process import current_process
from celery import Task
from celery.exceptions import Reject
from celery.utils.log import get_logger
from celery.utils.time import maybe_iso8601, maybe_make_aware

from legit_embedding import process
from legit_embedding.broker import reserved_queues  # noqa: F401 - queues are reserved as soon as a worker knows them
from legit_embedding.broker.settlement import note_answers
from legit_embedding.errors import GivenBackError, TaskError
from legit_embedding.pipeline.admission import Terms
from legit_embedding.pipeline.caller import HandedOver
from legit_embedding.pool.greenlets import current_owner, wait_for
from legit_embedding.pool.request import Withdrawn
from legit_embedding.pool.task_run import PoolJob
from legit_embedding.wire.call import Call, read_batch, read_one
from legit_embedding.wire.result import Origin, Written
from legit_embedding.wire.task import HandOff, TaskObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.config import Kind

logger = get_logger(__name__)

PUT_BACK_PAUSE_S = 2.0
HANDOFF_QUEUE = "legit_handoff_queue"
"""The Celery setting that makes a worker prep-only: the queue to which prepared tensors are forwarded."""


class FutureCaller:
    """Passes a task's outcome to the waiting task body."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[Written | HandedOver]) -> None:
        self._future = future

    def written(self, written: Written) -> None:
        """Resume the body; Celery acknowledges the message when it has returned."""
        self._future.set_result(written)

    def handed_over(self, handed: HandedOver) -> None:
        """Let the body forward the tensor."""
        self._future.set_result(handed)

    def given_back(self, error: GivenBackError) -> None:
        """Let the body reject the message for another worker."""
        self._future.set_exception(error)


class EmbeddingTask(Task):
    """A task that finishes when its vectors are confirmed.

    On ``gpubatch`` it waits without holding a thread; on every other pool, and when called eagerly, it blocks.
    """

    abstract = True
    Request = "legit_embedding.pool.request:EmbeddingRequest"
    Strategy = "legit_embedding.broker.as_sent:strategy"
    deferred = True
    acks_late = True
    reject_on_worker_lost = True
    throws = (TaskError,)
    in_batches = False
    """True if a call carries a list of task objects."""

    @classmethod
    def read_call(cls, args: object, kwargs: object) -> Call:
        """Read the task objects from the arguments of a call."""
        return read_batch(args, kwargs) if cls.in_batches else read_one(args, kwargs)

    def embed(
        self, args: object, kwargs: object, accepts: type[TaskObject] | type[HandOff], kind: Kind
    ) -> dict[str, Any]:
        """Embed the one task object of a call and return its receipt.

        Raises:
            TaskError: the task was answered with an error.
        """
        call = read_one(args, kwargs)
        raw = call.raws[0]
        written = self._wait([self._submit(raw, self._origin(), accepts, kind, refusal=call.error)])[0]
        if isinstance(written, HandedOver):
            return self._send_on(raw, written, kind)
        if isinstance(written.result.outcome, TaskError):
            raise self._failure(written.result.outcome)
        return written.receipt(with_embedding=_wants_embedding(raw))

    def embed_all(self, args: object, kwargs: object) -> list[dict[str, Any]]:
        """Embed the task objects of a call, of both kinds; returns their receipts in order. An error is a receipt too.

        Raises:
            TaskError: the call itself is invalid, and each of its tasks was answered with that error.
        """
        call, origin = read_batch(args, kwargs), self._origin()
        origins = [Origin(origin.kind, each.id) for each in call.origins(origin.id)]
        futures = [
            self._submit(raw, each, TaskObject, None, refusal=call.error)
            for raw, each in zip(call.raws, origins, strict=True)
        ]
        receipts = []
        for raw, written in zip(call.raws, self._wait(futures), strict=True):
            if isinstance(written, HandedOver):
                message = "prepare_batch does not run on a prep-only worker: route it to a worker with a device"
                raise Reject(message, requeue=True)
            receipts.append(written.receipt(with_embedding=_wants_embedding(raw)))
        if call.error is not None:
            raise call.error
        return receipts

    @cached_property
    def _handoff_queue(self) -> str | None:
        # Cached, because reading Celery's configuration for every task is slow.
        queue: str | None = self.app.conf.get(HANDOFF_QUEUE)
        return queue

    def _origin(self) -> Origin:
        request = self.request
        if request.id is None or request.is_eager:
            return Origin("local", request.id or "local")
        return Origin("celery", request.id)

    def _submit(
        self,
        raw: object,
        origin: Origin,
        accepts: type[TaskObject] | type[HandOff],
        kind: Kind | None,
        *,
        refusal: TaskError | None,
    ) -> Future[Written | HandedOver]:
        self._keep_off_prefork()
        future: Future[Written | HandedOver] = Future()
        caller = FutureCaller(future)
        nodename = None if origin.kind == "local" else self.request.hostname
        pipeline = process.current(prep_only=self._handoff_queue is not None, nodename=nodename)
        if refusal is not None:
            pipeline.refuse(raw, origin, refusal, caller)
            return future
        headers = self._trace_headers() if pipeline.settings.telemetry.traces else None
        job = pipeline.submit(raw, origin, caller, Terms(accepts, kind, self._expires(), headers))
        owner = current_owner()
        if isinstance(owner, PoolJob):
            owner.on_withdraw(lambda: pipeline.cancel(job, "expired" if owner.interruption else "revoked"))
        return future

    def _keep_off_prefork(self) -> None:
        """Put the task back if each child process of the pool would load every model for itself.

        Raises:
            Reject: the task runs in such a child process.
        """
        if self.request.id is None or self.request.is_eager or not current_process().daemon:
            return
        reason = (
            f"{self.name} was put back, because each process of the prefork pool would load every model for itself: "
            "start a worker with --pool=gpubatch for its queue, and leave that queue out of this one's -Q"
        )
        logger.error("%s", reason)
        time.sleep(PUT_BACK_PAUSE_S)  # otherwise this worker would take it again at once
        raise Reject(reason, requeue=True)

    def _trace_headers(self) -> dict[str, str]:
        """The producer's trace context: Celery makes each header of a message an attribute of the request."""
        found = {name: getattr(self.request, name, None) for name in ("traceparent", "tracestate")}
        return {name: value for name, value in found.items() if isinstance(value, str)}

    def _expires(self) -> float | None:
        expires = self.request.expires
        if isinstance(expires, str):
            expires = maybe_make_aware(maybe_iso8601(expires), self.app.timezone)
        return expires.timestamp() if isinstance(expires, datetime) else None

    def _failure(self, error: TaskError) -> Exception:
        """The exception for an error answer: revoked and expired tasks do not count as failed in Celery."""
        expires = self._expires()
        if error.code == "revoked" or (error.code == "expired" and expires is not None and time.time() > expires):
            return Withdrawn(error.code)
        return error

    def _wait(self, futures: Sequence[Future[Written | HandedOver]]) -> list[Written | HandedOver]:
        try:
            wait_for(_all_done(futures))
            written = [future.result() for future in futures]
        except GivenBackError as error:
            raise Reject(error, requeue=True) from error
        owner = current_owner()
        if isinstance(owner, PoolJob):
            if owner.message is not None:
                note_answers(owner.message, written)
            if owner.interruption is not None:
                raise owner.interruption
        return written

    def _send_on(self, raw: object, handed: HandedOver, kind: Kind) -> dict[str, Any]:
        """Replace this task by one that embeds the prepared item; its id, result and callbacks are kept."""
        names = process.settings().task_names
        task = TaskObject.parse(raw)
        kept = {"task_id", "reply_to", "app", "metadata", "deadline", "dimensions", "return_embedding"}
        message = task.model_dump(include=kept, exclude_defaults=True)
        message |= {"model": handed.model, "path": str(handed.path)}
        message |= {"truncated": handed.truncated, "repaired": handed.repaired}
        name = names.embed_image if kind == "image" else names.embed_text
        signature = self.app.signature(name, args=(message,), queue=self._handoff_queue)
        replaced: dict[str, Any] = self.replace(signature)
        return replaced


def _wants_embedding(raw: object) -> bool:
    return isinstance(raw, dict) and raw.get("return_embedding") is True


def _all_done(futures: Sequence[Future[Any]]) -> Future[Any]:
    """A future that is done when all of these are."""
    if len(futures) == 1:
        return futures[0]
    gathered: Future[None] = Future()
    lock = threading.Lock()
    waiting = len(futures)

    def one_done(_: Future[Any]) -> None:
        nonlocal waiting
        with lock:
            waiting -= 1
            last = waiting == 0
        if last:
            gathered.set_result(None)

    for future in futures:
        future.add_done_callback(one_done)
    if not futures:
        gathered.set_result(None)
    return gathered
