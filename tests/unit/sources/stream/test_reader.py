from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from legit_embedding.config import StreamConfig
from legit_embedding.sources.stream.in_flight import InFlightEntries
from legit_embedding.sources.stream.reader import _TOGETHER, Reader
from legit_embedding.sources.stream.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.wire.stream_entry import Entry


def make(in_flight: InFlightEntries) -> Reader:
    group: Any = SimpleNamespace(link=SimpleNamespace(timeout_s=1.0))
    nothing: Any = None
    return Reader(StreamConfig(read_count=64), group, nothing, in_flight, Retries(3), asyncio.Event())


class Reads:
    """Notes what is asked for."""

    is_left = False

    def __init__(self, asked: int) -> None:
        self.asked = asked

    async def ask(self, counts: Sequence[int]) -> None:
        self.asked += sum(counts)


@pytest.mark.parametrize(
    ("ahead", "far", "room", "asked", "expected"),
    [
        (4, 0, 1000, 0, 256),
        (4, 0, 200, 64, 192),
        (4, 0, 30, 0, 30),
        (50, 3200, 30, 0, 3200),
        (50, 3200, 1000, 0, 3200),
        (50, 3200, -3000, 0, 192),
        (50, 3200, -200, 2000, 2960),
        (50, 3200, -3200, 0, 0),
    ],
)
def test_what_the_way_from_the_server_holds_takes_no_room(
    ahead: int, far: int, room: int, asked: int, expected: int
) -> None:
    reader = make(InFlightEntries(lambda entries: None, lambda far: room + far))
    reader._ahead, reader._far, reader._more = ahead, far, True
    reads: Any = Reads(asked)
    asyncio.run(reader._ask_ahead(reads, 0))
    assert reads.asked == expected


def test_entries_are_submitted_many_at_a_time_in_their_order_and_none_twice() -> None:
    chunks: list[list[tuple[str, int]]] = []

    def take(entries: Sequence[Entry]) -> None:
        chunks.append([(entry.origin.id, entry.deliveries) for entry in entries])

    reader = make(InFlightEntries(take, lambda far: 1))
    ids = [f"{number}-0" for number in range(2 * _TOGETHER + 10)]
    reader._deliver([(ids[3], [b"text", b"x"])], {ids[3]: 4})
    reader._deliver([(entry_id, [b"text", b"x"]) for entry_id in ids], {})
    assert chunks[0] == [(ids[3], 5)], "its deliveries, and this one"
    assert [len(chunk) for chunk in chunks[1:]] == [_TOGETHER, _TOGETHER, 9]
    assert [each for chunk in chunks[1:] for each in chunk] == [(entry_id, 1) for entry_id in ids if entry_id != ids[3]]
