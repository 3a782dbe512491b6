"""Decodes the arguments of embedding tasks as plain JSON.

kombu's decoder turns some JSON objects into dates, UUIDs and decimals, and rejects others of the same shape. The
fields that a task echoes would then differ from what was sent, and from what the same object yields on a stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.worker.strategy import default
from kombu.exceptions import DecodeError
from kombu.utils import json as kombu_json

from legit_embedding.wire import json_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.message import Message

JSON = "application/json"
_MARK = "__type__"
_PARTS = 3  # args, kwargs, and the callbacks


def strategy(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:  # noqa: ANN401 - Celery has no types
    """Celery's default strategy, with arguments decoded as plain JSON."""
    handle = default(task, app, consumer)

    def handle_as_sent(message: Message, body: Any, *rest: Any) -> Any:  # noqa: ANN401
        if message.content_type == JSON:
            decoded = _second_protocol(message) if body is None else _first_protocol(message, body)
            if decoded is not None:
                # Celery reads the message's content from here; kombu has no public way to set it.
                message._decoded_cache = decoded  # noqa: SLF001
        return handle(message, body, *rest)

    return handle_as_sent


def _second_protocol(message: Message) -> Any:  # noqa: ANN401
    """The content of a message; None if it does not look like a task, which is left to Celery."""
    text = _text(message)
    sent = _loads(text)
    if not isinstance(sent, list) or len(sent) != _PARTS:
        return None
    args, kwargs, embed = sent
    # The callbacks are for Celery, which expects kombu's types in them.
    return args, kwargs, _as_kombu(embed) if _MARK in text else embed


def _first_protocol(message: Message, body: Any) -> Any:  # noqa: ANN401
    """The content of a protocol 1 message, where the arguments are keys of the body."""
    text = _text(message)
    if _MARK not in text or not isinstance(body, dict):
        return None
    sent = _loads(text)
    return body | {name: sent[name] for name in ("args", "kwargs") if name in sent}


def _text(message: Message) -> str:
    body = message.body
    try:
        return body if isinstance(body, str) else bytes(body).decode(message.content_encoding or "utf-8")
    except (LookupError, TypeError, ValueError) as error:
        raise DecodeError(str(error)) from error


def _loads(text: str) -> Any:  # noqa: ANN401
    try:
        return json_text.loads(text)
    except ValueError as error:
        raise DecodeError(str(error)) from error


def _as_kombu(embed: object) -> Any:  # noqa: ANN401
    try:
        return kombu_json.loads(json_text.dumps(embed))
    except (ArithmeticError, TypeError, ValueError) as error:
        raise DecodeError(str(error)) from error
