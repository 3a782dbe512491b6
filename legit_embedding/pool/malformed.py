"""Messages that no task can be made of: answered where it is legible whose they are, and kept in the dead letter."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

from celery.worker import state
from redis.exceptions import RedisError

from legit_embedding import runtime
from legit_embedding.errors import TaskError
from legit_embedding.messages import Origin
from legit_embedding.pool.arguments import sent_objects
from legit_embedding.pool.envelope import MalformedError, check_body, check_task, task_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kombu.message import Message

    from legit_embedding.pool.dead_messages import DeadMessages

log = logging.getLogger(__name__)

EXCERPT = 300
"""How much of a refused message the log shows, in characters."""


class Refusals:
    """Stands between a broker and Celery's consumer: no message ends the worker, and none is taken out unanswered.

    Celery acknowledges a message that it cannot read, and nobody learns of it; other messages end its event loop.
    Here a message for an embedding task is answered with ``invalid_task`` under its task id, or else its Celery id;
    and one that is malformed, or that cannot be answered, is kept in the dead letter.

    Args:
        consumer: Celery's consumer, before it has started.
        dead_messages: keeps what cannot be a task; None where the dead letter is not used.
    """

    def __init__(self, consumer: Any, dead_messages: DeadMessages | None) -> None:  # noqa: ANN401 - Celery's consumer
        self._consumer = consumer
        self._dead_messages = dead_messages
        # Celery's own steps change their consumer in the same way.
        vars(consumer).update(
            create_task_handler=self._create_task_handler,
            on_decode_error=self._on_decode_error,
            on_invalid_task=self._on_invalid_task,
            on_unknown_message=self._on_unknown_message,
        )

    def refuse_item(self, queue: str, item: bytes | str, why: MalformedError) -> None:
        """Deal with what was taken off a list of the broker, and is no message; nothing has to be acknowledged."""
        text = item.decode(errors="replace") if isinstance(item, bytes) else item
        self._log(queue, why, text)
        try:
            self._keep(queue, text, str(why), "")
        except RedisError as error:
            log.error("It could not be kept in the dead letter: %s", error)  # noqa: TRY400 - an outage, not a fault
        headers, properties, body = _parts_of(_loads(text))
        if self._is_ours(headers):
            refusal = TaskError("invalid_task", f"the message does not fit: {why}")
            for raw, origin in _legible(headers, properties, body):
                self._answer(raw, origin, refusal, _ignore)

    def refuse(self, message: Message, why: Exception) -> None:
        """Take a message out that cannot be a task: log it, keep it, answer it, and then acknowledge it."""
        queue, text = _queue_of(message), _text_of(message)
        self._log(queue, why, text)
        self._forget(message)
        try:
            self._keep(queue, text, str(why), str(message.delivery_tag))
        except RedisError as error:
            # Not acknowledged: the broker still has it, and brings it again.
            log.error("It is left in the broker, because the dead letter cannot be written: %s", error)  # noqa: TRY400
            return
        if not self._answer_all(message, TaskError("invalid_task", f"the message does not fit: {why}")):
            self._acknowledge(message)

    def _create_task_handler(self) -> Callable[[Message], None]:
        consumer = self._consumer
        handle = type(consumer).create_task_handler(consumer)
        passed_on = (*consumer.connection_errors, *consumer.channel_errors)

        def on_task_received(message: Message) -> None:
            try:
                self._check(message)
                handle(message)
            except passed_on:
                raise
            except MalformedError as error:
                self.refuse(message, error)
            except Exception as error:
                log.exception("Celery could not take a message")
                self.refuse(message, error)

        return on_task_received

    def _check(self, message: Message) -> None:
        """Check a message as far as Celery trusts it, and mend what is not meant badly.

        Raises:
            MalformedError: it cannot be a task.
        """
        if isinstance(message.content_type, str):
            message.content_type = message.content_type.partition(";")[0].strip().lower()
        headers = message.headers
        if not isinstance(headers, dict):
            text = f"headers: expected an object, got {type(headers).__name__}"
            raise MalformedError(text)
        if "task" in headers:
            check_task(headers, message.properties)
        try:
            body = message.payload
        except Exception:  # noqa: BLE001 - Celery asks again, and says in its own way that it cannot be read
            return
        if "task" not in headers:
            if isinstance(body, dict) and "task" in body:
                check_task(body, message.properties)
        elif not (isinstance(body, dict) and "args" in body):
            check_body(body)
            self._mend_body(message, body)

    @staticmethod
    def _mend_body(message: Message, body: Any) -> None:  # noqa: ANN401 - what JSON gives
        """Make empty maps of PHP's empty lists."""
        args, kwargs, embed = body
        if kwargs == [] or embed == []:
            message.body = json.dumps([args, kwargs or {}, embed or None]).encode()
            message.content_encoding = "utf-8"
            vars(message)["_decoded_cache"] = None
            message._decoded_cache = None  # noqa: SLF001 - kombu keeps what it has decoded

    def _on_decode_error(self, message: Any, error: Exception) -> None:  # noqa: ANN401 - a message, or what became none
        if isinstance(message, dict):
            self.refuse_item("", json.dumps(message, default=str), MalformedError(str(error)))
        elif not self._refused_by_celery(message, error):
            type(self._consumer).on_decode_error(self._consumer, message, error)

    def _on_invalid_task(self, body: object, message: Message, error: Exception) -> None:
        if not self._refused_by_celery(message, error):
            type(self._consumer).on_invalid_task(self._consumer, body, message, error)

    def _on_unknown_message(self, body: object, message: Message) -> None:
        self.refuse(message, MalformedError(f"it names no task: {str(body)[:EXCERPT]!r}"))

    def _refused_by_celery(self, message: Message, error: Exception) -> bool:
        """Answer an embedding task that Celery cannot read; False for other tasks."""
        if not self._is_ours(_headers_of(message)):
            return False
        self._log(_queue_of(message), error, _text_of(message))
        self._forget(message)
        return self._answer_all(message, TaskError("invalid_task", f"the message cannot be read: {error}"))

    def _is_ours(self, headers: Mapping[str, Any]) -> bool:
        name = headers.get("task")
        task = self._consumer.app.tasks.get(name) if isinstance(name, str) else None
        return bool(getattr(task, "deferred", False))

    def _answer_all(self, message: Message, error: TaskError) -> bool:
        """Answer what a message asks for and acknowledge it then; False where nothing in it can be answered."""
        headers = _headers_of(message)
        if not self._is_ours(headers) or not runtime.is_running():
            return False
        asked = _legible(headers, message.properties, _body_of(message))
        waiting = len(asked)

        def answered(_: object) -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                self._acknowledge(message)

        for raw, origin in asked:
            self._answer(raw, origin, error, answered)
        return bool(asked)

    def _answer(self, raw: object, origin: Origin, error: TaskError, settled: Callable[[object], None]) -> None:
        if runtime.is_running():
            runtime.current().refuse(raw, origin, error, settled)

    def _acknowledge(self, message: Message) -> None:
        if not message.acknowledged:
            self._consumer.call_soon_ack(message.ack_log_error, log, self._consumer.connection_errors)

    def _forget(self, message: Message) -> None:
        """Take back what Celery has noted of a request that came to nothing."""
        request = state.requests.get(_headers_of(message).get("id"))
        if request is not None and request.message is message:
            state.task_ready(request)

    def _keep(self, queue: str, text: str, why: str, tag: str) -> None:
        if self._dead_messages is not None:
            self._dead_messages.keep(queue, text, why, tag)

    @staticmethod
    def _log(queue: str, why: Exception, text: str) -> None:
        log.error("A message in %r cannot be a task, and is taken out: %s: %.300r", queue, why, text[:EXCERPT])


def _legible(headers: Mapping[str, Any], properties: object, body: object) -> list[tuple[object, Origin]]:
    """The task objects of a message, and what to call each: by its Celery id, or what stands for that."""
    names = [headers.get("id"), properties.get("correlation_id") if isinstance(properties, dict) else None]
    celery_id = next(filter(None, map(_readable_id, names)), None)
    objects = sent_objects(*_arguments(body))
    if celery_id is None:
        # Without a Celery id only a task's own id can be answered under.
        objects = [raw for raw in objects if isinstance(raw, dict) and _readable_id(raw.get("task_id"))]
    return [(raw, _origin(celery_id, raw, index if len(objects) > 1 else None)) for index, raw in enumerate(objects)]


def _origin(celery_id: str | None, raw: Any, index: int | None) -> Origin:  # noqa: ANN401
    name = celery_id if celery_id is not None else str(raw["task_id"])
    return Origin("celery", name if index is None else f"{name}:{index}")


def _arguments(body: object) -> tuple[object, object]:
    if isinstance(body, (list, tuple)) and body:
        return body[0], body[1] if len(body) > 1 else {}
    if isinstance(body, dict):
        return body.get("args"), body.get("kwargs")
    return (), {}


def _readable_id(value: object) -> str | None:
    try:
        return task_id(value)
    except MalformedError:
        return None


def _headers_of(message: Message) -> dict[str, Any]:
    """The headers of a task message; of one in Celery's first protocol, its body."""
    return _task_headers(message.headers, _body_of(message))


def _task_headers(headers: object, body: object) -> dict[str, Any]:
    if isinstance(headers, dict) and "task" in headers:
        return headers
    return body if isinstance(body, dict) else {}


def _parts_of(raw: object) -> tuple[dict[str, Any], object, object]:
    """The headers, properties and body of a message that kombu cannot read, as far as they are legible."""
    if not isinstance(raw, dict):
        return {}, None, None
    body = raw.get("body")
    if isinstance(body, str):
        try:
            body = _loads(base64.b64decode(body).decode())
        except ValueError:
            body = _loads(body)
    return _task_headers(raw.get("headers"), body), raw.get("properties"), body


def _ignore(_: object) -> None:
    """Nothing waits for the answer: the message is out of the broker already."""


def _body_of(message: Message) -> object:
    try:
        return message.payload
    except Exception:  # noqa: BLE001 - it cannot be read: that is why it is refused
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


def _loads(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
