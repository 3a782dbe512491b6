from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from legit_embedding.cli.submit import feeder
from legit_embedding.cli.submit.feeder import Feeder, Item, Progress

if TYPE_CHECKING:
    from typing import Self


class FakeRedis:
    """A stream that shrinks by a given number each time someone looks at its length while waiting."""

    def __init__(self, length: int = 0, drained: int = 0) -> None:
        self.length, self.longest, self.drained = length, length, drained
        self.trips: list[int] = []
        self.breaks_at: int | None = None

    def xlen(self, _stream: str) -> int:
        self.length -= min(self.length, self.drained)
        return self.length

    def pipeline(self, *, transaction: bool) -> FakePipeline:
        assert transaction, "a batch is there as a whole or not at all"
        return FakePipeline(self)


class FakePipeline:
    def __init__(self, server: FakeRedis) -> None:
        self.server, self.added = server, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def xadd(self, _stream: str, fields: dict[str, Any]) -> None:
        assert set(fields) == {"payload"}
        self.added += 1

    def xlen(self, _stream: str) -> None:
        pass

    def execute(self) -> list[int]:
        server = self.server
        if len(server.trips) == server.breaks_at:
            raise RedisConnectionError("gone")
        server.trips.append(self.added)
        server.length += self.added
        server.longest = max(server.longest, server.length)
        return [server.length]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder, "POLL_S", 0)


def feed(server: FakeRedis, count: int, max_length: int = 10**6, size: int = 10) -> tuple[Progress, list[int | None]]:
    progress, changes = Progress(), []
    items = (Item(number, b"x" * size) for number in range(1, count + 1))
    Feeder(server, "tasks", max_length, progress, changes.append).feed(items)
    return progress, changes


def test_many_tasks_take_few_round_trips() -> None:
    server = FakeRedis()
    progress, _ = feed(server, 1000)
    assert server.trips == [256, 256, 256, 232]
    assert (progress.sent, progress.position, progress.uncertain) == (1000, 1000, 0)


def test_large_tasks_are_sent_in_small_batches() -> None:
    server = FakeRedis()
    feed(server, 10, size=1024 * 1024)
    assert server.trips == [4, 4, 2]


def test_the_stream_never_grows_beyond_its_limit() -> None:
    server = FakeRedis(length=90, drained=30)
    progress, changes = feed(server, 1000, max_length=100)
    assert progress.sent == sum(server.trips) == 1000
    assert server.longest == 100
    assert 100 in changes, "nobody was told that it waits"


def test_a_broken_connection_leaves_the_batch_uncertain() -> None:
    server = FakeRedis()
    server.breaks_at = 2
    progress = Progress()
    items = (Item(2 * number, b"x") for number in range(1, 1001))
    with pytest.raises(RedisConnectionError):
        Feeder(server, "tasks", 10**6, progress, lambda _: None).feed(items)
    assert (progress.sent, progress.position, progress.uncertain) == (512, 1024, 256)


def test_nothing_to_send_is_nothing_to_do() -> None:
    server = FakeRedis()
    assert feed(server, 0)[0].sent == 0
    assert not server.trips
