"""One look for many listeners."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from legit_embedding.sources.http import broadcast as module
from legit_embedding.sources.http.broadcast import Broadcast, EventStream
from legit_embedding.sources.http.problems import HttpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

PATIENCE_S = 60


class Looks:
    """Counts the looks, and says when they may happen."""

    def __init__(self) -> None:
        self.count = 0
        self.may = threading.Event()
        self.may.set()
        self.fails = False

    def __call__(self) -> dict[str, int]:
        self.may.wait(PATIENCE_S)
        self.count += 1
        if self.fails:
            raise OSError("no figures")
        return {"look": self.count}


def greet() -> list[str]:
    return ["before"]


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, PATIENCE_S))


async def following(events: AsyncIterator[bytes]) -> dict[str, int]:
    event = (await anext(events)).decode()
    assert event.startswith("data: ")
    assert event.endswith("\n\n")
    return json.loads(event[6:])


async def greeted(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    assert await anext(events) == b'event: history\ndata: ["before"]\n\n'
    return events


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_all_listeners_share_one_look() -> None:
    async def scene() -> None:
        looks = Looks()
        broadcast = Broadcast(looks, greet, every_s=PATIENCE_S)
        looks.may.clear()
        listeners = [await greeted(broadcast.listen()) for _ in range(5)]
        heard = [asyncio.ensure_future(following(each)) for each in listeners]
        await asyncio.sleep(0)
        looks.may.set()
        assert await asyncio.gather(*heard) == [{"look": 1}] * 5
        assert looks.count == 1

    run(scene())


def test_nobody_looks_while_nobody_listens() -> None:
    async def scene() -> None:
        looks = Looks()
        broadcast = Broadcast(looks, greet, every_s=0.001)
        assert broadcast._looking is None
        for round_ in range(2):
            events = await greeted(broadcast.listen())
            before = looks.count
            await until(lambda before=before: looks.count > before)
            assert (await following(events))["look"] > round_
            broadcast.leave()
            await until(lambda: broadcast._looking is None)
        assert broadcast.listeners == 0

    run(scene())


def test_a_slow_listener_misses_events_and_delays_nobody() -> None:
    async def scene() -> None:
        broadcast = Broadcast(Looks(), greet, every_s=0.001)
        slow, quick = await greeted(broadcast.listen()), await greeted(broadcast.listen())
        first = (await following(slow))["look"]
        for _ in range(20):
            last = (await following(quick))["look"]
        assert last >= first + 19
        assert (await following(slow))["look"] > last - 1

    run(scene())


def test_listeners_are_bounded() -> None:
    async def scene() -> None:
        broadcast = Broadcast(Looks(), greet, most=2)
        broadcast.listen()
        broadcast.listen()
        with pytest.raises(HttpError) as refused:
            broadcast.listen()
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "1")
        broadcast.leave()
        broadcast.listen()

    run(scene())


def test_a_look_that_fails_is_logged_and_the_next_one_is_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        looks = Looks()
        looks.fails = True
        events = await greeted(Broadcast(looks, greet, every_s=0.001).listen())
        heard = asyncio.ensure_future(following(events))
        await until(lambda: looks.count > 2)
        assert not heard.done()
        looks.fails = False
        assert (await heard)["look"] > 2

    run(scene())
    assert "The figures of the page could not be read" in caplog.text


def test_closing_ends_every_stream_and_no_other_begins() -> None:
    async def scene() -> None:
        looks = Looks()
        broadcast = Broadcast(looks, greet, every_s=0.001)
        events = await greeted(broadcast.listen())
        looks.may.clear()
        heard = asyncio.ensure_future(anext(events, None))
        await asyncio.sleep(0)
        broadcast.close()
        assert await heard is None
        with pytest.raises(HttpError, match="stopping"):
            broadcast.listen()
        looks.may.set()
        await until(lambda: broadcast._looking is None)

    run(scene())


async def never(*_: Any) -> None:
    await asyncio.Event().wait()


def test_a_listener_that_goes_away_is_counted_out() -> None:
    async def scene() -> None:
        broadcast = Broadcast(Looks(), greet, every_s=0.001)
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> dict[str, str]:
            await until(lambda: len(sent) > 3)
            return {"type": "http.disconnect"}

        await EventStream(broadcast, lambda: None)({"type": "http"}, receive, send)
        assert broadcast.listeners == 0
        headers = dict(sent[0]["headers"])
        assert headers[b"content-type"].startswith(b"text/event-stream")
        assert headers[b"cache-control"] == b"no-store"

    run(scene())


def test_a_listener_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALLED_S", 0.01)

    async def scene() -> None:
        broadcast, cut = Broadcast(Looks(), greet, every_s=0.001), asyncio.Event()
        await EventStream(broadcast, cut.set)({"type": "http"}, never, never)
        assert cut.is_set()
        assert broadcast.listeners == 0

    run(scene())
