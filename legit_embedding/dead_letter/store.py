"""The dead letter stream, as the ``dead`` command reads and changes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

from legit_embedding.redis_io.entries import FIRST, newest, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

    from legit_embedding.config import StreamConfig
    from legit_embedding.redis_io.entries import Entry

PAGE = 50
"""Entries per page: each may carry an image, and the server does nothing else while it reads them."""

LIST = files(__package__).joinpath("list.lua").read_text(encoding="utf-8")
REQUEUE = files(__package__).joinpath("requeue.lua").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Header:
    """The dead letter's fields of an entry; missing ones are empty."""

    id: str
    bytes: int
    dead_reason: str
    dead_detail: str
    deliveries: str
    original_stream: str
    original_id: str
    dead_at: str

    @classmethod
    def of(cls, line: Sequence[Any]) -> Header:
        """Parse one line of the script's reply."""
        entry_id, size, *rest = line
        return cls(text(entry_id), int(size), *map(text, rest))

    def as_json(self) -> dict[str, Any]:
        """The object that ``dead list --json`` prints."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Requeued:
    """The outcome of requeueing one entry."""

    id: str
    new_id: str | None = None
    problem: str | None = None


class DeadLetter:
    """The dead letter of one task stream."""

    def __init__(self, client: redis.Redis, config: StreamConfig) -> None:
        self._client = client
        self._tasks = config.tasks
        self.stream = config.dead_letter

    def __len__(self) -> int:
        return int(self._client.xlen(self.stream))

    def roll(self, reason: str = "", after: str = FIRST) -> Iterator[list[Header]]:
        """Yield the headers of all current entries, oldest first, in pages; with a reason, only those that have it."""
        cursor, until = after, newest(self._client, self.stream)
        while cursor:
            reply = self._client.eval(LIST, 1, self.stream, cursor, until, str(PAGE), reason)
            last, lines = cast("tuple[bytes, list[Any]]", reply)
            if lines:
                yield [Header.of(line) for line in lines]
            cursor = last.decode()

    def find(self, entry_id: str) -> dict[bytes, bytes] | None:
        """The fields of one entry; None if it does not exist."""
        found = cast("list[Entry]", self._client.xrange(self.stream, entry_id, entry_id))
        return found[0][1] if found else None

    def requeue(self, ids: Sequence[str]) -> list[Requeued]:
        """Move entries back to the task stream atomically: each is always in exactly one of the two streams."""
        reply = self._client.eval(REQUEUE, 2, self.stream, self._tasks, *ids)
        outcomes = [text(each) for each in cast("list[bytes]", reply)]
        return [_requeued(entry_id, outcome) for entry_id, outcome in zip(ids, outcomes, strict=True)]

    def purge(self, ids: Sequence[str]) -> int:
        """Delete entries; returns the number of those that existed."""
        return int(self._client.xdel(self.stream, *ids))


def _requeued(entry_id: str, outcome: str) -> Requeued:
    mark, rest = outcome[:1], outcome[1:]
    if mark == "+":
        return Requeued(entry_id, new_id=rest)
    return Requeued(entry_id, problem="there is no such entry" if mark == "?" else rest)
