from __future__ import annotations

import asyncio
import time
from threading import Thread

from legit_embedding.messages import Origin
from legit_embedding.sources.entries import Entry
from legit_embedding.sources.holdings import Holdings


def entry(entry_id: str, deliveries: int = 1) -> Entry:
    return Entry({"task_id": entry_id}, Origin("stream", entry_id), deliveries)


def test_an_entry_is_held_before_it_is_submitted() -> None:
    seen: list[tuple[str, bool]] = []
    holdings = Holdings(lambda each: seen.append((each.origin.id, each.origin.id in holdings)), lambda: 1)
    holdings.submit(entry("1-0"))
    assert seen == [("1-0", True)]
    holdings.settled("1-0")
    holdings.settled("1-0")
    assert len(holdings) == 0


def test_an_entry_that_is_not_taken_is_not_held() -> None:
    def refuse(_: Entry) -> None:
        raise RuntimeError("full")

    holdings = Holdings(refuse, lambda: 1)
    holdings.submit(entry("1-0"))
    assert len(holdings) == 0
    assert holdings.take_returned() == {}


def test_what_comes_after_the_end_is_returned_as_untried() -> None:
    submitted: list[Entry] = []
    holdings = Holdings(submitted.append, lambda: 1)
    holdings.submit(entry("1-0", deliveries=2))
    holdings.close()
    holdings.submit(entry("2-0", deliveries=3))
    holdings.given_back("1-0")
    holdings.given_back("unknown")
    assert [each.origin.id for each in submitted] == ["1-0"]
    assert holdings.take_returned() == {"1-0": 1, "2-0": 2}
    assert holdings.take_returned() == {}


def test_letting_go_tells_how_often_each_was_delivered() -> None:
    holdings = Holdings(lambda _: None, lambda: 1)
    holdings.submit(entry("1-0", deliveries=2))
    assert holdings.take_held() == {"1-0": 2}
    assert holdings.ids() == []


def test_a_change_in_another_thread_wakes_the_loop() -> None:
    holdings = Holdings(lambda _: None, lambda: 1)

    async def wait() -> float:
        began = time.monotonic()
        waiting = asyncio.create_task(holdings.change(10))
        await asyncio.sleep(0)
        Thread(target=holdings.settled, args=["1-0"]).start()
        await waiting
        await holdings.change(0.01)  # the next one waits again
        return time.monotonic() - began

    assert asyncio.run(wait()) < 5
    holdings.changed()  # nobody waits
