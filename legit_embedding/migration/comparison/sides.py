"""Where the records of one side come from: a result stream, or a file of results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from legit_embedding.migration.comparison.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

PAGE = 500


class Source(Protocol):
    """One side, before it is read."""

    @property
    def name(self) -> str:
        """Its name in the output."""

    def size(self) -> int:
        """The amount to read, in steps of `records`."""

    def records(self, advance: Callable[[int], None]) -> Iterator[Record]:
        """Read it from the start; `advance` is told of the steps."""


@dataclass(frozen=True, slots=True)
class StreamSource:
    """The contents of a result stream when the reading begins; steps are entries."""

    client: redis.Redis
    name: str

    def size(self) -> int:
        """The number of entries."""
        return int(self.client.xlen(self.name))

    def records(self, advance: Callable[[int], None]) -> Iterator[Record]:
        """Read page by page."""
        last = cast("list[tuple[bytes, dict[bytes, bytes]]]", self.client.xrevrange(self.name, count=1))
        after, until = "-", last[0][0].decode() if last else "0-0"
        while page := cast("list[tuple[bytes, dict[bytes, bytes]]]", self.client.xrange(self.name, after, until, PAGE)):
            for entry_id, fields in page:
                yield Record.of(_texts(fields), int(entry_id.partition(b"-")[0]))
            advance(len(page))
            after = f"({page[-1][0].decode()}"


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of results as ``legit-embedding tail`` writes them, one JSON object a line; steps are bytes."""

    path: Path

    @property
    def name(self) -> str:
        """Its name in the output."""
        return str(self.path)

    def size(self) -> int:
        """The length of the file, in bytes."""
        return self.path.stat().st_size

    def records(self, advance: Callable[[int], None]) -> Iterator[Record]:
        """Read line by line.

        Raises:
            ValueError: a line is no result.
        """
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield self._record(number, line)
                advance(len(line))

    def _record(self, number: int, line: bytes) -> Record:
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict) or "task_id" not in fields:
                raise ValueError("a result is a JSON object with a task_id")  # noqa: TRY301 - said like a syntax error
        except ValueError as error:
            message = f"{self.path}, line {number}: {error}"
            raise ValueError(message) from error
        return Record.of(fields, _written_at(fields.get("id")))


def _texts(fields: dict[bytes, bytes]) -> dict[str, object]:
    return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields.items()}


def _written_at(entry_id: object) -> int | None:
    """The time in a stream entry's id."""
    digits = entry_id.partition("-")[0] if isinstance(entry_id, str) else ""
    return int(digits) if digits.isdecimal() else None
