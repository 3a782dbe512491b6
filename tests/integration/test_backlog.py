"""The backlog by which workers are scaled, in every state that a stream and a queue can be in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from legit_embedding.pipeline.backlog import Depth, TaskBacklog
from legit_embedding.telemetry import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from tests.unit.cli.invoking import Cli

TASKS, GROUP = "embedding_tasks", "embedding_workers"
COUNT = 10


class Stream:
    """The task stream, and what may happen to it."""

    def __init__(self, client: redis.Redis, *, deletes: bool) -> None:
        self.client = client
        self.deletes = deletes
        self.ids: list[Any] = []

    def add(self, count: int = COUNT) -> None:
        self.ids += [self.client.xadd(TASKS, {"payload": "x"}) for _ in range(count)]

    def group(self, start: str = "0") -> None:
        self.client.xgroup_create(TASKS, GROUP, start, mkstream=True)

    def read(self, count: int) -> list[Any]:
        ((_, entries),) = self.client.xreadgroup(GROUP, "w", {TASKS: ">"}, count=count)
        return [entry for entry, _ in entries]

    def acknowledge(self, ids: list[Any]) -> None:
        self.client.xack(TASKS, GROUP, *ids)
        if self.deletes:
            self.client.xdel(TASKS, *ids)


def nothing(stream: Stream) -> None: ...


def no_group(stream: Stream) -> None:
    stream.add()


def unread(stream: Stream) -> None:
    stream.group()
    stream.add()


def pending(stream: Stream) -> None:
    unread(stream)
    stream.read(COUNT)


def some_of_each(stream: Stream) -> None:
    unread(stream)
    read = stream.read(6)
    stream.acknowledge([read[1], read[4]])


def all_acknowledged(stream: Stream) -> None:
    unread(stream)
    stream.acknowledge(stream.read(COUNT))


def unread_deleted(stream: Stream) -> None:
    unread(stream)
    stream.read(3)
    stream.client.xdel(TASKS, *stream.ids[5:7])


def pending_deleted(stream: Stream) -> None:
    unread(stream)
    stream.client.xdel(TASKS, *stream.read(4)[:2])


def trimmed(stream: Stream) -> None:
    unread(stream)
    stream.client.xtrim(TASKS, maxlen=7, approximate=False)


def pending_trimmed(stream: Stream) -> None:
    unread(stream)
    stream.read(5)
    stream.client.xtrim(TASKS, maxlen=7, approximate=False)


def group_at_the_end(stream: Stream) -> None:
    stream.add(4)
    stream.group("$")
    stream.add(3)
    stream.read(1)


STATES: list[tuple[Callable[[Stream], None], int, int | None]] = [
    # the state, its backlog where finished entries are deleted, and where they are kept (None: nobody can tell)
    (nothing, 0, 0),
    (no_group, 10, 10),
    (unread, 10, 10),
    (pending, 10, 10),
    (some_of_each, 8, 8),
    (all_acknowledged, 0, 0),
    (unread_deleted, 8, None),
    (pending_deleted, 8, 8),
    (trimmed, 7, 7),
    (pending_trimmed, 7, 7),
    (group_at_the_end, 7, None),  # four of them are read by nobody: the group was made behind them
]


@pytest.mark.parametrize("deletes", [True, False], ids=["deleted", "kept"])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state[0].__name__)
def test_the_backlog_of_a_stream(
    cli: Cli, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, state: Any, deletes: bool
) -> None:
    monkeypatch.setenv("LEGIT_STREAMS__DELETE_ON_ACK", str(deletes).lower())
    prepare, deleted, kept = state
    prepare(Stream(client, deletes=deletes))
    report = cli.json("backlog", "--json")
    stream = report["sources"][0]
    assert (stream["source"], stream["items"]) == (f"stream:{TASKS}", deleted if deletes else kept)
    assert report["items"] == stream["items"]


def queue(client: redis.Redis, waiting: int, high: int, held: int) -> None:
    for _ in range(waiting):
        client.lpush("embedding", "{}")
    for _ in range(high):
        client.lpush("embedding\x06\x169", "{}")
    for number in range(held):
        client.hset("unacked", str(number), "[]")


def worker(client: redis.Redis, name: str, items_per_s: float, ago_s: float = 0.0) -> None:
    seconds, _ = client.time()
    client.zadd(keys.WORKERS, {name: seconds - ago_s})
    client.hset(keys.worker(name), mapping={"items_per_s": items_per_s})


def test_queues_of_every_priority_and_what_workers_hold(cli: Cli, client: redis.Redis) -> None:
    queue(client, 5, 2, 4)
    client.lpush("other", "{}")
    report = cli.json("backlog", "--json")
    found = {each["source"]: each["items"] for each in report["sources"]}
    assert found == {f"stream:{TASKS}": 0, "queue:embedding": 7, "unacknowledged": 4}
    assert report["items"] == 11
    both = cli.json("backlog", "--queue", "other", "--queue", "none", "--json", STREAMS__CONSUME="false")
    assert {each["source"]: each["items"] for each in both["sources"]} == {
        "queue:other": 1,
        "queue:none": 0,
        "unacknowledged": 4,
    }


def test_the_rate_is_that_of_the_living(cli: Cli, client: redis.Redis) -> None:
    no_group(Stream(client, deletes=True))
    assert cli.json("backlog", "--json")["empty_in_s"] is None
    assert "never at this rate" in cli("backlog").stdout
    worker(client, "one", 1.5)
    worker(client, "two", 1.0)
    worker(client, "gone", 100.0, ago_s=60)
    report = cli.json("backlog", "--json")
    assert (report["items_per_s"], report["empty_in_s"]) == (2.5, 4.0)
    assert "empty in 4s" in cli("backlog").stdout.replace("4 s", "4s")


@pytest.mark.parametrize(
    ("items", "options", "workers"),
    [
        (0, (), 0),
        (1, (), 1),
        (100, (), 1),
        (101, (), 2),
        (5000, (), 10),
        (0, ("--min", 2), 2),
        (5000, ("--max", 3), 3),
        (5000, ("--max", 0), 0),
    ],
)
def test_how_many_workers(cli: Cli, client: redis.Redis, items: int, options: Any, workers: int) -> None:
    queue(client, items, 0, 0)
    assert cli.json("backlog", "--json", "--target", 100, *options)["desired"] == workers
    assert f"{workers} workers desired" in cli("backlog", "--target", 100, *options).stdout


def test_no_number_of_workers_without_a_number_of_tasks(cli: Cli, client: redis.Redis) -> None:
    unread_deleted(Stream(client, deletes=False))
    said = cli.failure("backlog", "--target", 10, "--json", STREAMS__DELETE_ON_ACK="false")
    assert "streams.delete_on_ack" in said
    assert "--min 3 is more than --max 2" in cli.failure("backlog", "--min", 3, "--max", 2, code=2)


def test_letters_and_ages(cli: Cli, client: redis.Redis) -> None:
    seconds, _ = client.time()
    client.xadd(TASKS, {"payload": "x"}, id=f"{(seconds - 100) * 1000}-0")
    client.xadd("embedding_tasks:dead", {"dead_reason": "x"})
    report = cli.json("backlog", "--json")
    assert report["dead_letters"] == 1
    assert report["sources"][0]["unread"] == 1
    assert 99 <= report["sources"][0]["oldest_age_s"] <= 160


def test_depths_say_what_is_unknown() -> None:
    assert TaskBacklog(0.0, (Depth("stream:s", None), Depth("queue:q", 3)), 0, 1.0).items is None
