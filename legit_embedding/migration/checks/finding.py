"""Result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of a check, and what to do about it."""

    level: Level
    what: str
    todo: str = ""


def ok(what: str) -> Finding:
    """Make a finding that needs no action."""
    return Finding("ok", what)


def warn(what: str, todo: str) -> Finding:
    """Make a finding that may cause problems."""
    return Finding("warn", what, todo)


def fail(what: str, todo: str) -> Finding:
    """Make a finding that must be fixed."""
    return Finding("fail", what, todo)
