"""Messages that cannot be tasks: removed from the queue once, kept in the dead letter, and answered where possible."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject
from celery.worker import state
from redis.exceptions import RedisError

from legit_embedding import process
from legit_embedding.broker.envelope import MalformedError, check_body, check_task, task_id
from legit_embedding.broker.settlement import note_server
from legit_embedding.errors import TaskError
from legit_embedding.pipeline.caller import OnOutcome
from legit_embedding.redis_io.server_id import UNKNOWN
from legit_embedding.task import EmbeddingTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kombu.message import Message

    from legit_embedding.dead_letter.messages import DeadMessages

log = logging.getLogger(__name__)

EXCERPT = 300
"""Length of the excerpt of a message in the log, in characters."""


class MalformedMessages:
    """Validates messages between the broker and Celery's consumer, so that none can end the worker or block others.

    Args:
        consumer: Celery's consumer, before it has started.
        dead_messages: stores messages that cannot be tasks; None if the dead letter is disabled.
    """

    def __init__(self, consumer: Any, dead_messages: DeadMessages | None) -> None:  # noqa: ANN401 - Celery's consumer
        self._consumer = consumer
        self._dead_messages = dead_messages
        make_handler = consumer.create_task_handler

        def create_task_handler(*args: Any, **options: Any) -> Callable[[Message], None]:  # noqa: ANN401
            return self._guarded(make_handler(*args, **options))

        # Celery's own steps change their consumer in the same way.
        vars(consumer).update(create_task_handler=create_task_handler, on_unknown_message=self._on_unknown_message)

    def refuse_item(self, queue: str, item: bytes | str, why: Exception) -> str | None:
        """Handle an item from a broker list that cannot become a message.

        Returns:
            The id of the server that keeps it, if that is known; None if it could not be kept.
        """
        text = item.decode(errors="replace") if isinstance(item, bytes) else item
        self._log(queue, why, text)
        try:
            server = self._keep(queue, text, why, "")
        except RedisError as error:
            log.error("It could not be kept in the dead letter: %s", error)  # noqa: TRY400 - an outage, not a fault
            return None
        self._answer(text, TaskError("invalid_task", f"message: {why}"))
        return server

    def _guarded(self, handle: Callable[[Message], Any]) -> Callable[[Message], None]:
        consumer = self._consumer
        passed_on = (*consumer.connection_errors, *consumer.channel_errors)

        def on_task_received(message: Message) -> None:
            try:
                self._check(message)
                handle(message)
            except passed_on:
                raise
            except Reject as refusal:  # the pool's, and no fault of the message
                self._forget(message)
                message.reject_log_error(log, passed_on, requeue=refusal.requeue)
            except MalformedError as error:
                self._refuse(message, error)
            except Exception as error:
                log.exception("Celery could not take a message")
                self._refuse(message, error)

        return on_task_received

    def _check(self, message: Message) -> None:
        """Check a message as far as Celery relies on it. The arguments of an embedding task are checked by its request.

        Raises:
            MalformedError: the message cannot be a task.
        """
        headers = message.headers
        if "task" in headers:
            check_task(headers, message.properties)
            if self._is_ours(headers):
                return
        try:
            body = message.payload
        except Exception:  # noqa: BLE001 - Celery asks again, and says in its own way that it cannot be read
            return
        if "task" not in headers:
            if isinstance(body, dict) and "task" in body:
                check_task(body, message.properties)
        elif not (isinstance(body, dict) and "args" in body):
            check_body(body)

    def _is_ours(self, headers: Mapping[str, Any]) -> bool:
        name = headers.get("task")
        return isinstance(name, str) and isinstance(self._consumer.app.tasks.get(name), EmbeddingTask)

    def _refuse(self, message: Message, why: Exception) -> None:
        """Keep a message in the dead letter, and let the consumer answer or drop it."""
        queue, text = _queue_of(message), _text_of(message)
        self._log(queue, why, text)
        self._forget(message)
        try:
            note_server(message, self._keep(queue, text, why, str(message.delivery_tag)))
        except RedisError as error:
            # Not acknowledged: the broker still holds it and will deliver it again.
            log.error("It is left in the broker, because the dead letter cannot be written: %s", error)  # noqa: TRY400
            return
        if not message.acknowledged:
            self._consumer.on_invalid_task(None, message, why)

    def _on_unknown_message(self, body: object, message: Message) -> None:
        self._refuse(message, MalformedError(f"it names no task: {str(body)[:EXCERPT]}"))

    @staticmethod
    def _forget(message: Message) -> None:
        """Undo what Celery has recorded for a request that failed to start."""
        name = message.headers.get("id") if isinstance(message.headers, dict) else None
        request = state.requests.get(name) if isinstance(name, str) else None
        if request is not None and request.message is message:
            state.task_ready(request)

    def _keep(self, queue: str, text: str, why: Exception, tag: str) -> str:
        return UNKNOWN if self._dead_messages is None else self._dead_messages.keep(queue, text, str(why), tag)

    def _answer(self, text: str, error: TaskError) -> None:
        """Answer the tasks of a malformed embedding message, as far as it is legible."""
        headers, properties, args, kwargs = _parts_of(_loads(text))
        name = headers.get("task")
        task = self._consumer.app.tasks.get(name) if isinstance(name, str) else None
        if not isinstance(task, EmbeddingTask) or not process.is_running():
            return
        call = task.read_call(args, kwargs)
        celery_id = _readable(headers.get("id")) or _readable(properties.get("correlation_id"))
        for raw, origin in zip(call.raws, call.origins(celery_id or ""), strict=True):
            if origin.id or (isinstance(raw, dict) and _readable(raw.get("task_id"))):
                process.current().refuse(raw, origin, error, OnOutcome(_ignore))

    @staticmethod
    def _log(queue: str, why: Exception, text: str) -> None:
        log.error("A message in %r cannot be a task, and is taken out: %s: %r", queue, why, text[:EXCERPT])


def _parts_of(raw: object) -> tuple[Mapping[str, Any], Mapping[str, Any], object, object]:
    """The headers, properties, arguments and keywords of a message, as far as they are legible."""
    if not isinstance(raw, dict):
        return {}, {}, (), {}
    body = _decoded(raw.get("body"))
    headers = raw.get("headers")
    if not isinstance(headers, dict) or "task" not in headers:
        headers = body if isinstance(body, dict) else {}
    properties = raw.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if isinstance(body, dict):
        return headers, properties, body.get("args"), body.get("kwargs")
    args, kwargs = [*body, None, None][:2] if isinstance(body, list) else ((), {})
    return headers, properties, args, kwargs


def _decoded(body: object) -> object:
    if not isinstance(body, str):
        return body
    try:
        return _loads(base64.b64decode(body).decode())
    except ValueError:
        return _loads(body)


def _loads(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _readable(value: object) -> str | None:
    try:
        return task_id(value)
    except MalformedError:
        return None


def _queue_of(message: Message) -> str:
    info = message.delivery_info if isinstance(message.delivery_info, dict) else {}
    return str(info.get("routing_key") or info.get("exchange") or "")


def _text_of(message: Message) -> str:
    raw = getattr(message, "_raw", None) or {
        "body": message.body,
        "headers": message.headers,
        "properties": message.properties,
        "content-type": message.content_type,
    }
    return json.dumps(raw, default=str)


def _ignore(_: object) -> None:
    """Ignore the outcome: the message has already left the broker."""
