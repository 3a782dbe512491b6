from __future__ import annotations

import asyncio
import time
from threading import Thread
from typing import TYPE_CHECKING

from legit_embedding.sources.stream.in_flight import InFlightEntries
from legit_embedding.wire.result import Origin
from legit_embedding.wire.stream_entry import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence


def entry(entry_id: str, deliveries: int = 1) -> Entry:
    return Entry({"task_id": entry_id}, Origin("stream", entry_id), deliveries)


def test_an_entry_is_held_before_it_is_submitted() -> None:
    seen: list[tuple[str, bool]] = []

    def take(entries: Sequence[Entry]) -> None:
        seen.extend((each.origin.id, each.origin.id in in_flight) for each in entries)

    in_flight = InFlightEntries(take, lambda far: 1)
    in_flight.submit([entry("1-0"), entry("2-0")])
    assert seen == [("1-0", True), ("2-0", True)]
    assert in_flight.submitted == 2
    in_flight.settled("2-0")
    in_flight.settled("1-0")
    in_flight.settled("1-0")
    assert len(in_flight) == 0


def test_an_entry_that_is_not_taken_is_not_held() -> None:
    def refuse(_: Sequence[Entry]) -> None:
        raise RuntimeError("full")

    in_flight = InFlightEntries(refuse, lambda far: 1)
    in_flight.submit([entry("1-0"), entry("2-0")])
    assert len(in_flight) == 0
    assert in_flight.take_returned() == {}


def test_what_comes_after_the_end_is_returned_as_untried() -> None:
    submitted: list[Entry] = []
    in_flight = InFlightEntries(submitted.extend, lambda far: 1)
    in_flight.submit([entry("1-0", deliveries=2)])
    in_flight.close()
    in_flight.submit([entry("2-0", deliveries=3), entry("3-0")])
    in_flight.given_back("1-0")
    in_flight.given_back("unknown")
    assert [each.origin.id for each in submitted] == ["1-0"]
    assert in_flight.take_returned() == {"1-0": 1, "2-0": 2, "3-0": 0}
    assert in_flight.take_returned() == {}


def test_letting_go_tells_how_often_each_was_delivered() -> None:
    in_flight = InFlightEntries(lambda _: None, lambda far: 1)
    in_flight.submit([entry("1-0", deliveries=2)])
    assert in_flight.take_held() == {"1-0": 2}
    assert in_flight.ids() == []


def test_a_change_in_another_thread_wakes_the_loop() -> None:
    in_flight = InFlightEntries(lambda _: None, lambda far: 1)

    async def wait() -> float:
        began = time.monotonic()
        waiting = asyncio.create_task(in_flight.change(10))
        await asyncio.sleep(0)
        Thread(target=in_flight.settled, args=["1-0"]).start()
        await waiting
        await in_flight.change(0.01)  # the next one waits again
        return time.monotonic() - began

    assert asyncio.run(wait()) < 5
    in_flight.changed()  # nobody waits
