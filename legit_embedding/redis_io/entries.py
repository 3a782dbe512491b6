"""Entries of a stream: their ids, their text, and reading them a page at a time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    Entry = tuple[bytes, dict[bytes, bytes]]

FIRST = "0-0"
"""Before every entry."""

_NEWEST = "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]; return last and last[1]"
_ID = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")


def entry_id(value: str) -> str:
    """Check an id, and complete it: ``1700000000000`` is taken for ``1700000000000-0``."""
    match = _ID.fullmatch(value)
    if match is None:
        message = f"{value!r} is not an entry id like 1700000000000-0"
        raise click.BadParameter(message)
    return f"{match[1]}-{match[2] or 0}"


def order(entry: str) -> tuple[int, int]:
    """A sorting key."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


def age(entry: str | None, now: float) -> float | None:
    """Seconds since an entry was added, by the server's clock; None without an entry."""
    return None if entry is None else max(0.0, round(now - order(entry)[0] / 1000, 3))


def newest(client: redis.Redis, stream: str) -> str:
    """The id of the stream's last entry, without the entry: it may carry an image."""
    found = cast("bytes | None", client.eval(_NEWEST, 1, stream))
    return found.decode() if found else FIRST


def pages(client: redis.Redis, stream: str, after: str, until: str, size: int) -> Iterator[list[Entry]]:
    """The entries after one id and up to another, a page at a time."""
    while order(after) < order(until):
        page = cast("list[Entry]", client.xrange(stream, f"({after}", until, count=size))
        if not page:
            return
        yield page
        after = page[-1][0].decode()


def text(raw: bytes) -> str:
    """Bytes as text; those that are not UTF-8 are spelt out."""
    return raw.decode("utf-8", "backslashreplace")


def texts(fields: dict[bytes, bytes]) -> dict[str, str]:
    """An entry's fields as text."""
    return {text(name): text(value) for name, value in fields.items()}
