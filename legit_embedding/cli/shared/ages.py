"""Durations on the command line."""

from __future__ import annotations

import re

import click

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h|d)")


def age(text: str) -> float:
    """Parse a duration like ``90s``, ``30min``, ``1h`` or ``2d`` into seconds."""
    match = _LENGTH.fullmatch(text.strip())
    if match is None:
        message = f"{text!r} is not a length of time like 90s, 30min, 1h or 2d"
        raise click.BadParameter(message)
    return float(match[1]) * _SECONDS[match[2]]
