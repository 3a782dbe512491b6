from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from legit_embedding.config import StreamConfig
from legit_embedding.sources.stream.in_flight import InFlightEntries
from legit_embedding.sources.stream.reader import _TOGETHER, Reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.wire.stream_entry import Entry


def test_entries_are_submitted_many_at_a_time_in_their_order_and_none_twice() -> None:
    chunks: list[list[tuple[str, int]]] = []

    def take(entries: Sequence[Entry]) -> None:
        chunks.append([(entry.origin.id, entry.deliveries) for entry in entries])

    in_flight = InFlightEntries(take, lambda: 1)
    group: Any = SimpleNamespace(link=SimpleNamespace(timeout_s=1.0))
    nothing: Any = None
    reader = Reader(StreamConfig(), group, nothing, in_flight, nothing, asyncio.Event())
    ids = [f"{number}-0" for number in range(2 * _TOGETHER + 10)]
    reader._deliver([(ids[3], [b"text", b"x"])], {ids[3]: 4})
    reader._deliver([(entry_id, [b"text", b"x"]) for entry_id in ids], {})
    assert chunks[0] == [(ids[3], 5)], "its deliveries, and this one"
    assert [len(chunk) for chunk in chunks[1:]] == [_TOGETHER, _TOGETHER, 9]
    assert [each for chunk in chunks[1:] for each in chunk] == [(entry_id, 1) for entry_id in ids if entry_id != ids[3]]
