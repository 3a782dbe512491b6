"""Entries of the task stream, and the task objects in them."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from legit_embedding.errors import TaskError
from legit_embedding.wire import json_text
from legit_embedding.wire.result import Origin
from legit_embedding.wire.task import IMAGE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

PAYLOAD = "payload"

_INTEGER = re.compile(r"-?\d{1,18}")
_TYPED = frozenset({"deadline", "return_embedding", "metadata"})
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(slots=True)
class Entry:
    """One task of the stream, as its producer sent it."""

    raw: dict[str, Any]
    """The input of `TaskObject.parse`; ``task_id`` is set even if the producer sent none."""
    origin: Origin
    deliveries: int = 1
    """The number of deliveries to workers, including this one."""
    error: TaskError | None = None
    """``invalid_task`` if the entry is invalid in a way that `raw` does not show; `raw` still has the address."""

    @classmethod
    def read(cls, entry_id: str, fields: Sequence[bytes], deliveries: int = 1) -> Entry:
        """Read an entry of either layout (CONTRACT section 3); invalid content still yields an entry.

        Args:
            entry_id: its id, which replaces a missing ``task_id``.
            fields: alternating names and values, as Redis returns them.
            deliveries: the number of deliveries, including this one.
        """
        origin = Origin("stream", entry_id)
        try:
            raw, error = _task_object(fields)
        except Exception as problem:
            logger.exception("the stream entry %s cannot be read", entry_id)
            raw, error = {}, TaskError("model_failed", f"reading the entry failed: {type(problem).__name__}")
        if raw.get("task_id") is None or raw["task_id"] == "":
            raw["task_id"] = entry_id
        return cls(raw, origin, deliveries, error)


def _task_object(fields: Sequence[bytes]) -> tuple[dict[str, Any], TaskError | None]:
    # Invalid UTF-8 becomes surrogates: no model accepts them, and an answer that echoes them restores the exact bytes.
    texts = iter([field.decode("utf-8", "surrogateescape") for field in fields])
    pairs = dict(zip(texts, texts, strict=True))
    payload = pairs.pop(PAYLOAD, None)
    raw, error = _flat(pairs), None
    if payload is not None:
        try:
            raw |= _object(payload)
        except ValueError as problem:
            error = TaskError("invalid_task", f"{PAYLOAD}: {problem}")
    return raw, error


def _flat(pairs: dict[str, str]) -> dict[str, Any]:
    """Make a task object from text fields. Empty fields count as absent: PHP writes null as an empty string."""
    serialized = _is_serialized(pairs)
    absent = ("", "null") if serialized else ("",)
    raw: dict[str, Any] = {}
    for name, value in pairs.items():
        text = _unquoted(value) if serialized else value
        if name == "text" or text not in absent:
            raw[name] = _typed(name, text) if name in _TYPED else text
    if raw.get("text") in absent and any(name in raw for name in IMAGE_FIELDS):
        del raw["text"]
    return raw


def _typed(name: str, text: str) -> object:
    """Convert text to the value of a JSON task object; invalid text is left for the task's own validation."""
    if name == "deadline":
        return int(text) if _INTEGER.fullmatch(text) else text
    if name == "return_embedding":
        return _BOOLEANS.get(text.lower(), text)
    try:
        return json_text.loads(text)
    except ValueError:
        return text


def _is_serialized(pairs: dict[str, str]) -> bool:
    """True if a serializer wrote these values, as phpredis does with ``SERIALIZER_JSON``.

    That is assumed if every value is JSON and at least one besides ``text`` is a quoted string: no other plain value is
    ever quoted, while a text may be a quotation. Either all values of an entry are decoded, or none.
    """
    if not [name for name, value in pairs.items() if value[:1] == '"' and name != "text"]:
        return False
    try:
        for value in pairs.values():
            json_text.loads(value)
    except ValueError:
        return False
    return True


def _unquoted(value: str) -> str:
    decoded = json_text.loads(value) if value[:1] == '"' else value
    return decoded if isinstance(decoded, str) else value


def _object(text: str) -> dict[str, Any]:
    """Parse the JSON object in this text, which a serializer may have encoded as a JSON string.

    Raises:
        ValueError: the text holds no JSON object; the message says why.
    """
    try:
        value = json_text.loads(text)
        value = json_text.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        message = f"it is not JSON: {error}"
        raise ValueError(message) from None
    if not isinstance(value, dict):
        message = f"expected a JSON object, got {type(value).__name__}"
        raise ValueError(message)  # noqa: TRY004 - it speaks of a producer's data, not of an argument
    return value
