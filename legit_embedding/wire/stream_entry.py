"""What stands in the task stream, and the task object in it."""

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


@dataclass(frozen=True, slots=True)
class Entry:
    """One task of the stream, as its producer sent it."""

    raw: dict[str, Any]
    """What `TaskObject.parse` takes; ``task_id`` is there even if the producer sent none."""
    origin: Origin
    deliveries: int = 1
    """How often it was given to a worker, this time included."""
    error: TaskError | None = None
    """``invalid_task`` where it is wrong in a way that `raw` does not show; `raw` still has the address."""

    @classmethod
    def read(cls, entry_id: str, fields: Sequence[bytes], deliveries: int = 1) -> Entry:
        """Read an entry of either layout (CONTRACT section 3); whatever it holds, it becomes an entry.

        Args:
            entry_id: its id, which stands in for a missing ``task_id``.
            fields: names and values in turn, as Redis gives them.
            deliveries: how often it was delivered, this time included.
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
    # Bytes that are no UTF-8 become surrogates: no model takes them, and an answer that echoes them is exact.
    texts = [field.decode("utf-8", "surrogateescape") for field in fields]
    pairs = dict(zip(texts[::2], texts[1::2], strict=True))
    payload = pairs.pop(PAYLOAD, None)
    raw, error = _flat(pairs), None
    if payload is not None:
        try:
            raw |= _object(payload)
        except ValueError as problem:
            error = TaskError("invalid_task", f"{PAYLOAD}: {problem}")
    return raw, error


def _flat(pairs: dict[str, str]) -> dict[str, Any]:
    """A task object from fields that are all text. Empty ones are absent ones: PHP writes null so."""
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
    """The value that a JSON task object would have; text that does not fit is left for the task's own check."""
    if name == "deadline":
        return int(text) if _INTEGER.fullmatch(text) else text
    if name == "return_embedding":
        return _BOOLEANS.get(text.lower(), text)
    try:
        return json_text.loads(text)
    except ValueError:
        return text


def _is_serialized(pairs: dict[str, str]) -> bool:
    """Whether a serializer wrote these values, as phpredis does with ``SERIALIZER_JSON``.

    That is so where every value is JSON, and one besides ``text`` is a string in quotes: no other plain value is ever
    in quotes, and a text may be a quotation. All the values of such an entry are decoded; of any other, none is.
    """
    if not any(value[:1] == '"' for name, value in pairs.items() if name != "text"):
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
    """The JSON object in this text, which a serializer may have made a JSON string.

    Raises:
        ValueError: there is none; a sentence that says so.
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
