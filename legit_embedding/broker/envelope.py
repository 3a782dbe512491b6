"""A message as stored in the broker, validated as far as kombu and Celery rely on it."""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any

from celery.exceptions import InvalidTaskError

Envelope = dict[str, Any]

_TIME_HEADERS = ("eta", "expires")
_TEXT_HEADERS = ("task", "root_id", "parent_id", "group", "shadow", "lang")
_PARTS = 3
"""The number of parts in a task message's body: arguments, keyword arguments and callbacks."""


class MalformedError(InvalidTaskError):
    """A message that cannot be a task; the text names the invalid part."""


def parse_envelope(item: bytes | str) -> Envelope:
    """Parse a message from a broker list, filling in what kombu needs and a producer may omit.

    Args:
        item: the message as stored in the list.

    Raises:
        MalformedError: kombu cannot handle the message.
    """
    try:
        message = json.loads(item)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else f"it is no JSON: {error}"
        raise MalformedError(reason) from None
    if not isinstance(message, dict):
        raise _expected("the message", "an object", message)
    properties = message.get("properties")
    if not isinstance(properties, dict):
        raise _expected("properties", "an object", properties)
    if not isinstance(properties.get("delivery_tag"), str) or not properties["delivery_tag"]:
        raise _expected("properties.delivery_tag", "a string", properties.get("delivery_tag"))
    message["headers"] = _object(message, "headers")
    properties["delivery_info"] = _object(properties, "delivery_info")
    _check_route(properties["delivery_info"])
    _check_content(message, properties)
    return message


def tag_of(item: bytes | str) -> str:
    """The broker's tag of a message that has one."""
    tag: str = json.loads(item)["properties"]["delivery_tag"]
    return tag


def check_task(headers: dict[str, Any], properties: dict[str, Any]) -> None:
    """Check the headers that Celery reads from a task message (protocol 2), and convert a numeric id to text.

    Raises:
        MalformedError: a header has the wrong type.
    """
    if headers.get("task") is None:
        raise _expected("task", "a string", None)
    headers["id"] = task_id(headers.get("id"))
    correlation_id = properties.get("correlation_id")
    if isinstance(correlation_id, int):
        properties["correlation_id"] = str(correlation_id)
    for name in _TEXT_HEADERS:
        _check(headers, name, str)
    for name in _TIME_HEADERS:
        _check(headers, name, str)
    _check(headers, "retries", int)
    _check_time_limits(headers.get("timelimit"))


def task_id(value: object) -> str:
    """A task's id as text; PHP producers send numbers.

    Raises:
        MalformedError: it is neither a string nor an integer.
    """
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _expected("id", "a string", value)


def check_body(body: object) -> None:
    """Check the decoded body of a task message (protocol 2).

    Raises:
        MalformedError: it does not consist of arguments, keyword arguments and callbacks.
    """
    if not isinstance(body, (list, tuple)) or len(body) != _PARTS:
        raise _expected("the body", "a list of arguments, keywords and callbacks", body)
    args, kwargs, embed = body
    if not isinstance(args, (list, tuple)):
        raise _expected("the body's arguments", "a list", args)
    # PHP encodes an empty map as an empty list.
    if not isinstance(kwargs, dict) and kwargs != []:
        raise _expected("the body's keywords", "an object", kwargs)
    if embed is not None and not isinstance(embed, dict) and embed != []:
        raise _expected("the body's callbacks", "an object", embed)


def _check_route(delivery_info: dict[str, Any]) -> None:
    for name in ("exchange", "routing_key"):
        value = delivery_info.setdefault(name, "")
        if value is None:
            delivery_info[name] = ""
        elif not isinstance(value, str):
            raise _expected(f"properties.delivery_info.{name}", "a string", value)


def _check_content(message: Envelope, properties: dict[str, Any]) -> None:
    body, encoding = message.get("body"), properties.get("body_encoding")
    if not isinstance(body, str):
        raise _expected("body", "a string", body)
    if encoding is not None and not (isinstance(encoding, str) and encoding in {"", "base64"}):
        raise _expected("properties.body_encoding", "base64 or nothing", encoding)
    if encoding == "base64":
        try:
            base64.b64decode(body.encode(), validate=False)
        except (binascii.Error, ValueError) as error:
            message_ = f"body: it is no base64: {error}"
            raise MalformedError(message_) from None
    if not isinstance(message.get("content-type"), str):
        raise _expected("content-type", "a string", message.get("content-type"))
    if not isinstance(message.get("content-encoding", "utf-8"), str | None):
        raise _expected("content-encoding", "a string", message["content-encoding"])


def _check_time_limits(limits: object) -> None:
    if limits is None:
        return
    fits = isinstance(limits, (list, tuple)) and len(limits) == 2 and all(map(_is_limit, limits))  # noqa: PLR2004
    if not fits:
        raise _expected("timelimit", "two numbers of seconds", limits)


def _is_limit(limit: object) -> bool:
    if limit is None:
        return True
    return isinstance(limit, (int, float)) and not isinstance(limit, bool) and math.isfinite(limit) and limit >= 0


def _check(headers: dict[str, Any], name: str, kind: type) -> None:
    value = headers.get(name)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise _expected(name, "an integer" if kind is int else "a string", value)


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise _expected(name, "an object", value)
    return value


def _expected(name: str, kind: str, value: object) -> MalformedError:
    got = "nothing" if value is None else _kind_of(value)
    return MalformedError(f"{name}: expected {kind}, got {got}")


def _kind_of(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
