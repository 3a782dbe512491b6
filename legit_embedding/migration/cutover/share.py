"""Which part of the tasks goes to the new worker.

Every task has a fixed place between 0 and 100, made from its task id. A share of 25 takes the tasks below 25; so every
producer decides alike, and a larger share takes the same tasks and more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

Purpose = Literal["cutover", "shadow"]

_DIGITS = 13
_PLACES = 1 << (4 * _DIGITS)


def place(task_id: str, purpose: Purpose = "cutover") -> float:
    """Where a task stands, from 0 up to but not including 100.

    The first 13 hexadecimal digits of SHA-256 of ``PURPOSE:TASK_ID``, over 16 to the 13th, times 100: other languages
    can do the same. The two purposes are independent of each other.
    """
    digest = sha256(f"{purpose}:{task_id}".encode("utf-8", "surrogatepass")).hexdigest()
    return int(digest[:_DIGITS], 16) * 100 / _PLACES


@dataclass(frozen=True, slots=True)
class Subject:
    """The properties of a task by which it is routed."""

    task_id: str
    app: str | None = None
    model: str | None = None

    @classmethod
    def of(cls, argument: object) -> Subject:
        """Read a Celery task's argument; a batch goes where its first task goes.

        What carries no task id has a place too, so that a share of 100 means all: it comes from the whole argument.
        """
        task = argument[0] if isinstance(argument, list) and argument else argument
        fields = task if isinstance(task, dict) else {}
        return cls(_text(fields, "task_id") or _canonical(argument), _text(fields, "app"), _text(fields, "model"))

    def within(self, share: float, purpose: Purpose = "cutover") -> bool:
        """True if this share takes the task."""
        return place(self.task_id, purpose) < share


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and value else None


def _canonical(argument: object) -> str:
    return json.dumps(argument, sort_keys=True, default=repr)
