from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import redis

from legit_embedding.cli.shared import live
from legit_embedding.cli.shared.lazy import INTERRUPTED
from legit_embedding.cli.streams import command as streams
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import Server
    from tests.unit.cli.invoking import Cli

TASKS, GROUP = "embedding_tasks", "embedding_workers"


def work(client: redis.Redis, consumer: str, count: int) -> list[str]:
    ((_, entries),) = client.xreadgroup(GROUP, consumer, {TASKS: ">"}, count=count)
    return [entry for entry, _ in entries]


def finish(client: redis.Redis, ids: list[str]) -> None:
    client.xack(TASKS, GROUP, *ids)
    client.xdel(TASKS, *ids)


def test_nothing_is_there_yet(cli: Cli) -> None:
    report = cli.json("streams", "--interval", 0, "--json")
    tasks = report["tasks"]
    assert (tasks["length"], tasks["lag"], tasks["pending"], tasks["group"]) == (0, 0, 0, None)
    assert (tasks["oldest_age_s"], tasks["empty_in_s"], tasks["consumers"]) == (None, 0, [])
    assert report["dead_letter"]["length"] == report["dead_letter"]["added"] == 0
    assert [stream["stream"] for stream in report["results"]] == ["embedding_results"]
    assert "No consumer group yet" in cli("streams", "--interval", 0).stdout


def test_what_is_read_and_what_is_not(cli: Cli, client: redis.Redis) -> None:
    now = int(time.time() * 1000)
    for age_s in range(100, 90, -1):
        client.xadd(TASKS, {"payload": "x"}, id=f"{now - age_s * 1000}-0")
    client.xgroup_create(TASKS, GROUP, "0")
    first, second = work(client, "a", 4), work(client, "b", 2)
    finish(client, [first[0], first[2], second[1]])
    client.xadd("embedding_tasks:dead", {"dead_reason": "x"})
    client.xadd("embedding_results", {"status": "ok"}, id=f"{now - 7000}-0")
    report = cli.json("streams", "--interval", 0, "--json")
    tasks = report["tasks"]
    assert (tasks["length"], tasks["lag"], tasks["pending"]) == (7, 4, 3)
    assert [(each["name"], each["pending"]) for each in tasks["consumers"]] == [("a", 2), ("b", 1)]
    assert tasks["oldest_age_s"] == pytest.approx(99, abs=5)
    assert report["dead_letter"]["length"] == 1
    assert report["results"][0]["newest_age_s"] == pytest.approx(7, abs=5)
    assert report["measured_s"] == 0


def test_with_acknowledged_entries_kept_the_oldest_is_the_first_unfinished(cli: Cli, client: redis.Redis) -> None:
    now = int(time.time() * 1000)
    ids = [client.xadd(TASKS, {"payload": "x"}, id=f"{now - age_s * 1000}-0") for age_s in (300, 200, 100)]
    client.xgroup_create(TASKS, GROUP, "0")
    client.xack(TASKS, GROUP, *work(client, "a", 2))
    tasks = cli.json("streams", "--interval", 0, "--json", STREAMS__DELETE_ON_ACK="false")["tasks"]
    assert (tasks["length"], tasks["lag"], tasks["pending"]) == (3, 1, 0)
    assert tasks["oldest_age_s"] == pytest.approx(100, abs=5)
    assert len(ids) == 3


def test_a_lag_that_the_server_cannot_tell_is_worked_out(cli: Cli, client: redis.Redis) -> None:
    ids = [client.xadd(TASKS, {"payload": "x"}) for _ in range(10)]
    client.xgroup_create(TASKS, GROUP, "0")
    work(client, "a", 4)
    client.xdel(TASKS, ids[7])
    assert client.xinfo_groups(TASKS)[0]["lag"] is None
    assert cli.json("streams", "--interval", 0, "--json")["tasks"]["lag"] == 5
    kept = cli.json("streams", "--interval", 0, "--json", STREAMS__DELETE_ON_ACK="false")["tasks"]
    assert kept["lag"] is None
    assert kept["empty_in_s"] is None


def test_rates_between_two_looks(cli: Cli, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(100):
        client.xadd(TASKS, {"payload": "x"})
    client.xgroup_create(TASKS, GROUP, "0")

    def meanwhile(_seconds: float) -> None:
        for _ in range(10):
            client.xadd(TASKS, {"payload": "x"})
        finish(client, work(client, "a", 40))
        for _ in range(40):
            client.xadd("embedding_results", {"status": "ok"})
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > 0.3, 5, "a length of time that can be measured")

    monkeypatch.setattr(streams, "time", FakeTime(meanwhile))
    report = cli.json("streams", "--json")
    tasks, seconds = report["tasks"], report["measured_s"]
    assert 0 < seconds < 5
    assert tasks["lag"] == 70
    assert tasks["arrivals_per_s"] == pytest.approx(10 / seconds, rel=0.05)
    assert tasks["finished_per_s"] == pytest.approx(40 / seconds, rel=0.05)
    assert tasks["empty_in_s"] == pytest.approx(70 * seconds / 30, abs=0.1)
    assert report["results"][0]["per_s"] == pytest.approx(40 / seconds, rel=0.05)


class FakeTime:
    """Does something else in place of sleeping."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.sleep = sleep


def test_people_get_tables(cli: Cli, client: redis.Redis) -> None:
    for _ in range(1234):
        client.xadd(TASKS, {"payload": "x"})
    client.xgroup_create(TASKS, GROUP, "0")
    work(client, "pod-1\x1b[2J", 3)
    shown = cli("streams", "--interval", 0, "--results", "embedding_results:shop").stdout
    for expected in ("1,234", "1,231", "pod-1\\x1b[2J", "embedding_results:shop", "dead letter"):
        assert expected in shown
    assert "\x1b" not in shown


def test_result_streams_of_the_settings_are_shown(cli: Cli) -> None:
    found = cli.json(
        "streams",
        "--interval",
        0,
        "--json",
        "--results",
        "more",
        STREAMS__ROUTES='{"shop": "embedding_results:shop"}',
        STREAMS__REPLY_TO_ALLOW='["embedding_results*", "literal"]',
    )
    names = ["embedding_results", "embedding_results:shop", "literal", "more"]
    assert [stream["stream"] for stream in found["results"]] == names


def test_large_entries_are_not_fetched(cli: Cli, client: redis.Redis) -> None:
    for stream in (TASKS, "embedding_results", "embedding_tasks:dead"):
        client.xadd(stream, {"payload": "x" * 5_000_000})
    before = client.info("stats")["total_net_output_bytes"]
    cli("streams", "--interval", 0)
    assert client.info("stats")["total_net_output_bytes"] - before < 100_000


def test_a_key_that_is_no_stream_is_one_line(cli: Cli, client: redis.Redis) -> None:
    client.set("embedding_results", "x")
    assert cli.failure("streams").startswith("Redis: ")


@contextmanager
def watching(url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "legit_embedding.cli", "streams", "--watch", "--interval", "0.1", *arguments],
        env=os.environ | {"LEGIT_REDIS_URL": url, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_watch_goes_on_until_ctrl_c(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client, watching(redis_url, "--json") as process:
        assert json.loads(process.stdout.readline())["tasks"]["length"] == 0
        client.xadd(TASKS, {"payload": "x"})
        report = wait_for(
            lambda: (found := json.loads(process.stdout.readline()))["tasks"]["length"] == 1 and found,
            10,
            "the watch to see the new entry",
        )
        assert report["measured_s"] > 0
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == INTERRUPTED
    assert stderr == ""


def test_watch_outlives_its_server(own_server: Server) -> None:
    with watching(own_server.url, "--json") as process:
        json.loads(process.stdout.readline())
        own_server.kill()
        assert "trying again" in process.stderr.readline()
        own_server.start()
        with own_server.client() as client:
            client.xadd(TASKS, {"payload": "x"})
        wait_for(
            lambda: json.loads(process.stdout.readline())["tasks"]["length"] == 1, 10, "the watch to see the server"
        )
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == INTERRUPTED


def test_watch_shows_tables_in_place(cli: Cli, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def interrupted(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        client.xadd(TASKS, {"payload": "x"})
        if looks == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(live, "time", FakeTime(interrupted))
    shown = cli("streams", "--watch", code=INTERRUPTED).stdout
    assert shown.count("Results and dead letter") == 1, "the last state stays on the screen"
    assert "embedding_results" in shown
