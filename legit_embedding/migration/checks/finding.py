"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """How it stands, and what to do about it."""

    level: Level
    what: str
    todo: str = ""


def ok(what: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", what)


def warn(what: str, todo: str) -> Finding:
    """It may go well."""
    return Finding("warn", what, todo)


def fail(what: str, todo: str) -> Finding:
    """It will not go well."""
    return Finding("fail", what, todo)
