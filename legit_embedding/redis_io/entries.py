"""Entries of a stream: their ids, their text, and reading them in pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    Entry = tuple[bytes, dict[bytes, bytes]]

FIRST = "0-0"
"""An id that precedes every entry."""

_NEWEST = "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]; return last and last[1]"
_ID = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")


def entry_id(value: str) -> str:
    """Validate an id and complete it: ``1700000000000`` becomes ``1700000000000-0``."""
    match = _ID.fullmatch(value)
    if match is None:
        message = f"{value!r} is not an entry id like 1700000000000-0"
        raise click.BadParameter(message)
    return f"{match[1]}-{match[2] or 0}"


def order(entry: str) -> tuple[int, int]:
    """The sort key of an entry id."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


def age(entry: str | None, now: float) -> float | None:
    """Seconds since an entry was added, by the server's clock; None without an entry."""
    return None if entry is None else max(0.0, round(now - order(entry)[0] / 1000, 3))


def newest(client: redis.Redis, stream: str) -> str:
    """The id of the stream's last entry, fetched without the entry itself, which may carry an image."""
    found = cast("bytes | None", client.eval(_NEWEST, 1, stream))
    return found.decode() if found else FIRST


def pages(client: redis.Redis, stream: str, after: str, until: str, size: int) -> Iterator[list[Entry]]:
    """Yield the entries after one id and up to another, in pages."""
    while order(after) < order(until):
        page = cast("list[Entry]", client.xrange(stream, f"({after}", until, count=size))
        if not page:
            return
        yield page
        after = page[-1][0].decode()


def text(raw: bytes) -> str:
    """Decode bytes as UTF-8, escaping invalid ones."""
    return raw.decode("utf-8", "backslashreplace")


def texts(fields: dict[bytes, bytes]) -> dict[str, str]:
    """Decode an entry's fields."""
    return {text(name): text(value) for name, value in fields.items()}
