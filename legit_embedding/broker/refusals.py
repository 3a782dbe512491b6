"""Answers for messages that Celery rejects before there is a task to run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from celery.app.task import Context
from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger
from celery.worker.consumer.tasks import Tasks
from kombu.exceptions import ContentDisallowed, DecodeError

from legit_embedding import process
from legit_embedding.broker.settlement import note_answers
from legit_embedding.errors import GivenBackError, TaskError, in_one_line
from legit_embedding.pipeline.caller import OnOutcome
from legit_embedding.task import EmbeddingTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.message import Message

    from legit_embedding.pipeline.caller import HandedOver
    from legit_embedding.wire.result import Written

logger = get_logger(__name__)

JSON = "application/json"
LONGEST_CAUSE = 200


class Refusals(bootsteps.StartStopStep):
    """Answers embedding tasks whose message Celery would only log and drop.

    These messages have a content type that is not accepted, a body that does not decode, or headers or arguments of the
    wrong type. Each of their tasks is answered with ``invalid_task`` under its id, or under the Celery id if none is
    legible; then the message is acknowledged. Other tasks' messages are left to Celery.
    """

    requires = (Tasks,)

    def __init__(self, parent: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's consumer and its options
        super().__init__(parent, **kwargs)
        self._consumer = parent
        decode_error, invalid_task = parent.on_decode_error, parent.on_invalid_task
        make_handler = parent.create_task_handler

        def on_decode_error(message: Message, error: Exception) -> None:
            if not self._answer(message, None, error):
                decode_error(message, error)

        def on_invalid_task(body: object, message: Message, error: Exception) -> None:
            if not self._answer(message, body, error):
                invalid_task(body, message, error)

        def create_task_handler(*args: Any, **options: Any) -> Callable[[Message], Any]:  # noqa: ANN401
            handle = make_handler(*args, **options)

            def on_task_received(message: Message) -> Any:  # noqa: ANN401
                forgive(message)
                return handle(message)

            return on_task_received

        parent.on_decode_error = on_decode_error
        parent.on_invalid_task = on_invalid_task
        parent.create_task_handler = create_task_handler

    def _answer(self, message: Message, body: object, error: Exception) -> bool:
        """Answer the message's tasks, if it is one of ours."""
        fields = _headers(message) or body
        name = fields.get("task") if isinstance(fields, dict) else None
        task = self._consumer.app.tasks.get(name) if isinstance(name, str) else None
        if not isinstance(task, EmbeddingTask) or not isinstance(fields, dict) or not process.is_running():
            return False
        refusal = TaskError("invalid_task", _detail(message, error))
        logger.error("A message for %s was refused: %s", name, refusal.detail)
        celery_id = fields.get("id")
        celery_id = str(celery_id) if isinstance(celery_id, str | int) else str(message.delivery_tag)
        call = task.read_call(*_arguments(message))
        waiting = set(range(len(call.raws)))

        def answered(index: int, outcome: Written | HandedOver | GivenBackError) -> None:
            if isinstance(outcome, GivenBackError):
                self._settle(message.reject_log_error, requeue=True)
                return
            note_answers(message, [outcome])
            waiting.discard(index)
            if not waiting:
                self._record(task, celery_id, fields, refusal)
                self._settle(message.ack_log_error)

        for index, (raw, origin) in enumerate(zip(call.raws, call.origins(celery_id), strict=True)):
            process.current().refuse(raw, origin, refusal, OnOutcome(partial(answered, index)))
        if not call.raws:
            self._settle(message.ack_log_error)
        signals.task_rejected.send(sender=self._consumer, message=message, exc=error)
        return True

    def _settle(self, settle: Callable[..., None], **options: object) -> None:
        self._consumer.call_soon_ack(settle, logger, self._consumer.connection_errors, **options)

    def _record(self, task: EmbeddingTask, celery_id: str, fields: dict[str, Any], refusal: TaskError) -> None:
        """Store the failure in Celery's result backend for callers that wait on it."""
        try:
            request = Context({"id": celery_id, "task": task.name, "root_id": fields.get("root_id")})
            task.backend.mark_as_failure(
                celery_id, refusal, request=request, store_result=not fields.get("ignore_result"), call_errbacks=False
            )
        except Exception:
            logger.exception("The failure of %s could not be stored", celery_id)


def forgive(message: Message) -> None:
    """Correct deviations of other languages' producers that have only one possible meaning; never raises.

    These are a content type with parameters or in capitals, and an empty array for an empty map of keyword arguments.
    """
    if _media_type(message.content_type) == JSON:
        message.content_type = JSON
    if "task" in _headers(message):
        return  # the body is checked by the request
    try:
        payload = message.payload
    except Exception:  # noqa: BLE001 - whatever it is, Celery's own handler meets it next
        return
    if isinstance(payload, dict) and "kwargs" in payload and not payload["kwargs"]:
        payload["kwargs"] = {}


def _media_type(content_type: object) -> str:
    return content_type.partition(";")[0].strip().lower() if isinstance(content_type, str) else ""


def _headers(message: Message) -> dict[str, Any]:
    return message.headers if isinstance(message.headers, dict) else {}


def _arguments(message: Message) -> tuple[object, object]:
    """The positional and keyword arguments, as far as they are legible."""
    try:
        payload = message.payload
    except Exception:  # noqa: BLE001 - the message is being refused for that
        return (), {}
    if isinstance(payload, dict):  # protocol 1
        return payload.get("args"), payload.get("kwargs")
    args, kwargs = [*payload, None, None][:2] if isinstance(payload, list | tuple) else ((), {})
    return args, kwargs


def _detail(message: Message, error: Exception) -> str:
    if isinstance(error, ContentDisallowed):
        return f"content_type: {str(message.content_type)[:LONGEST_CAUSE]!r} is not accepted: send {JSON}"
    if isinstance(error, DecodeError):
        return f"body: it is no {JSON}: {in_one_line(error, named=False, longest=LONGEST_CAUSE)}"
    return in_one_line(error, named=not isinstance(error, InvalidTaskError), longest=LONGEST_CAUSE)
