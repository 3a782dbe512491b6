"""Output for people: consoles, and numbers with units."""

from __future__ import annotations

import json
import os
from typing import Any

import click
from rich.console import Console
from rich.text import Text

UNKNOWN = "-"
PIPED_WIDTH = 120
LONGEST_LINE = 400
MOST_LINES = 60
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def console(*, stderr: bool = False) -> Console:
    """Create a console that prints text verbatim: the contents of tasks are never interpreted as markup."""
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPED_WIDTH
    return made


def printable(text: str) -> str:
    """Escape the control characters in a text, so that no task can send any to the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def value(content: str, *, full: bool) -> Text:
    """Format a field's value over as many lines as needed: JSON is indented, long values are cut unless `full`."""
    lines = [printable(line) for line in _laid_out(content).splitlines()]
    if not full:
        rest = len(lines) - MOST_LINES
        lines = [_cut(line) for line in lines[:MOST_LINES]] + ([f"… ({rest:,} more lines)"] if rest > 0 else [])
    return Text("\n".join(lines))


def _laid_out(content: str) -> str:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return content
    return json.dumps(parsed, indent=2, ensure_ascii=False) if isinstance(parsed, dict | list) else content


def _cut(line: str) -> str:
    rest = len(line) - LONGEST_LINE
    return line if rest <= 0 else f"{line[:LONGEST_LINE]}… ({rest:,} more characters)"


def print_json(message: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Print one line of JSON on standard output."""
    click.echo(json.dumps(message))


def say(line: str) -> None:
    """Print one line on standard error, apart from the data on standard output."""
    click.echo(printable(line), err=True)


def duration(seconds: float | None) -> str:
    """Format a duration in its two largest units."""
    if seconds is None:
        return UNKNOWN
    rest = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        amount, rest = divmod(rest, size)
        if amount or (parts and len(parts) < 2):  # noqa: PLR2004 - two units
            parts.append(f"{amount} {unit}")
        if len(parts) == 2:  # noqa: PLR2004
            break
    return " ".join(part for part in parts if not part.startswith("0 ")) or "0 s"


def count(number: int | None) -> str:
    """Format an integer with thousands separators."""
    return UNKNOWN if number is None else f"{number:,}"


def counted(number: int, one: str, many: str) -> str:
    """Format a number with its noun in the singular or plural."""
    return f"{count(number)} {one if number == 1 else many}"


def rate(per_second: float | None) -> str:
    """Format a rate per second."""
    return UNKNOWN if per_second is None else f"{per_second:,.1f}/s"
