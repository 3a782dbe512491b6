from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any, cast

import pytest
import redis

from legit_embedding.config import StreamConfig
from legit_embedding.redis_io.connection import Backoff, Link
from legit_embedding.sources.stream.group import Group
from tests.proxy import Proxy
from tests.servers import Server, ServerKind, available_kinds
from tests.stream_worker import StreamWorker
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = StreamConfig(claim_idle_ms=60_000)
SOON = StreamConfig(claim_idle_ms=300, block_ms=500)


@pytest.fixture
def client(any_redis_url: str) -> Iterator[redis.Redis]:
    options = {"decode_responses": True, "encoding_errors": "surrogateescape"}
    with redis.Redis.from_url(any_redis_url, **options) as client:
        yield client


@pytest.fixture(params=available_kinds())
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of each kind for one test alone, which keeps confirmed writes."""
    with Server(cast("ServerKind", request.param), tmp_path / "server", durable=True) as server:
        yield server


def add(client: redis.Redis, count: int, start: int = 0) -> list[str]:
    """Put tasks into the stream; returns their task ids."""
    names = [f"task-{number}" for number in range(start, start + count)]
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.xadd(CONFIG.tasks, {"task_id": name, "text": f"text of {name}"})
        pipeline.execute()
    return names


def deliver(client: redis.Redis, consumer: str, count: int, times: int = 1) -> list[str]:
    """Have entries read by a consumer that will never answer them; returns their ids."""
    with_group(client)
    ((_, entries),) = client.xreadgroup(CONFIG.group, consumer, {CONFIG.tasks: ">"}, count=count)
    ids = [entry_id for entry_id, _ in entries]
    client.xclaim(CONFIG.tasks, CONFIG.group, consumer, 0, ids, retrycount=times, justid=True)
    return ids


def with_group(client: redis.Redis) -> None:
    with suppress(redis.ResponseError):  # it is there
        client.xgroup_create(CONFIG.tasks, CONFIG.group, "0", mkstream=True)


def answers(client: redis.Redis) -> Counter[str]:
    return Counter(fields["task_id"] for _, fields in client.xrange(CONFIG.results))


def pending(client: redis.Redis) -> list[dict[str, Any]]:
    return list(client.xpending_range(CONFIG.tasks, CONFIG.group, "-", "+", 10_000))


def are_under_way(client: redis.Redis, worker: StreamWorker) -> bool:
    """True if the server has delivered more than has arrived, by more than the four pages asked for together."""
    return len(pending(client)) + client.xlen(CONFIG.results) > len(worker.seen) + 4 * 64


def consumers(client: redis.Redis) -> set[str]:
    return {consumer["name"] for consumer in client.xinfo_consumers(CONFIG.tasks, CONFIG.group)}


def wait_for_answers(client: redis.Redis, names: list[str], timeout: float = 20) -> None:
    """Wait until every one of these tasks is answered, and see that none is twice."""
    wait_for(lambda: client.xlen(CONFIG.results) >= len(names), timeout, f"{len(names)} answers")
    assert answers(client) == Counter(names)
    wait_for(lambda: client.xlen(CONFIG.tasks) == 0, timeout, "an empty stream")
    assert pending(client) == []


class TestReading:
    def test_everything_is_answered_once(self, client: redis.Redis, any_redis_url: str) -> None:
        with StreamWorker(CONFIG, any_redis_url, "w1") as worker:
            wait_for(lambda: client.exists(CONFIG.tasks), 10, "the stream, made with its group")
            names = add(client, 500)
            client.xadd(CONFIG.tasks, {"payload": '{"task_id": "payload", "text": "x"}'})
            bad = client.xadd(CONFIG.tasks, {"payload": "{"})
            wait_for_answers(client, [*names, "payload", str(bad)])
            assert worker.source.health().ok
            wait_for(lambda: worker.source.stats().held == 0, 10, "empty hands")
            assert worker.source.stats().read == 502
            assert {entry.deliveries for entry in worker.seen} == {1}
        errors = [fields for _, fields in client.xrange(CONFIG.results) if fields["status"] == "error"]
        assert [(fields["error"], fields["source"]) for fields in errors] == [("invalid_task", bad)]

    def test_what_was_there_before_the_group_is_read_too(self, client: redis.Redis, any_redis_url: str) -> None:
        names = add(client, 3)
        with StreamWorker(CONFIG, any_redis_url, "w1"):
            wait_for_answers(client, names)

    def test_a_group_is_shared(self, client: redis.Redis, any_redis_url: str) -> None:
        with (
            StreamWorker(CONFIG, any_redis_url, "w1", limit=20, pause_s=0.005) as one,
            StreamWorker(CONFIG, any_redis_url, "w2", limit=20, pause_s=0.005) as two,
        ):
            wait_for_answers(client, add(client, 500))
            assert min(len(one.seen), len(two.seen)) > 50
            assert len(one.seen) + len(two.seen) == 500

    def test_reading_stops_where_there_is_no_room(self, client: redis.Redis, any_redis_url: str) -> None:
        names = add(client, 100)
        with StreamWorker(CONFIG, any_redis_url, "w1", limit=30, answering=False) as worker:
            wait_for(lambda: len(worker.seen) == 30, 10, "a full worker")
            wait_for(worker.writer.has_room, 10, "the writer")
            assert client.xinfo_groups(CONFIG.tasks)[0]["pending"] == 30
            worker.answer_all()
            wait_for_answers(client, names)

    def test_an_entry_that_is_not_taken_is_tried_again(self, client: redis.Redis, any_redis_url: str) -> None:
        with StreamWorker(SOON, any_redis_url, "w1") as worker:
            good, worker.work = worker.work, lambda _: 1 // 0  # type: ignore[method-assign]
            add(client, 1)
            wait_for(lambda: worker.seen, 10, "a delivery")
            worker.held.clear()
            worker.work = good  # type: ignore[method-assign]
            wait_for_answers(client, ["task-0"])
            assert [entry.deliveries for entry in worker.seen] == [1, 2]


class TestReadingAhead:
    def test_the_next_page_is_asked_for_while_one_is_delivered(self, client: redis.Redis, any_redis_url: str) -> None:
        with_group(client)
        names = add(client, 2000)
        go_on = Event()
        worker = StreamWorker(CONFIG, any_redis_url, "w1", limit=5000)
        work = worker.work
        worker.work = lambda entry: (len(worker.seen) == 65 and go_on.wait(20), work(entry))[1]  # type: ignore[method-assign]
        with worker:
            try:
                # The first read is of one page, and those that follow of four.
                wait_for(lambda: len(worker.seen) >= 65 and len(pending(client)) >= (4 + 4) * 64, 10, "a read ahead")
                assert len(worker.seen) == 65
            finally:
                go_on.set()
            wait_for_answers(client, names)

    @pytest.mark.parametrize(("more", "taken"), [(0, 700), (300, 1000)])
    def test_what_is_asked_for_counts_as_in_flight_beyond_what_the_way_holds(
        self, client: redis.Redis, any_redis_url: str, more: int, taken: int
    ) -> None:
        names = add(client, 2000)
        with (
            Proxy(any_redis_url, delay_s=0.02) as proxy,
            StreamWorker(CONFIG, proxy.url, "w1", limit=700, more=more, answering=False) as worker,
        ):
            wait_for(lambda: len(worker.seen) >= taken, 10, "a full worker")
            wait_for(worker.writer.has_room, 10, "the writer")
            assert len(worker.seen) == len(pending(client)) == taken
            worker.answer_all()
            wait_for_answers(client, names)

    def test_what_is_under_way_at_a_stop_is_finished(self, client: redis.Redis, any_redis_url: str) -> None:
        with_group(client)
        names = add(client, 3000)
        with Proxy(any_redis_url, delay_s=0.1) as proxy, StreamWorker(CONFIG, proxy.url, "w1", limit=2000) as worker:
            wait_for(lambda: are_under_way(client, worker), 10, "reads under way")
            seen = len(worker.seen)
            worker.source.stop_reading()
            wait_for(lambda: len(worker.seen) > seen and not pending(client), 10, "the end of the work")
        assert consumers(client) == set()
        assert len(worker.seen) < 3000
        with StreamWorker(CONFIG, any_redis_url, "w2"):
            wait_for_answers(client, names)

    def test_a_connection_that_is_cut_with_reads_under_way_loses_nothing(
        self, client: redis.Redis, any_redis_url: str
    ) -> None:
        with_group(client)
        names = add(client, 3000)
        with Proxy(any_redis_url, delay_s=0.1) as proxy, StreamWorker(CONFIG, proxy.url, "w1", limit=2000) as worker:
            wait_for(lambda: are_under_way(client, worker), 10, "reads under way")
            proxy.cut()
            wait_for_answers(client, names, timeout=40)
            assert {entry.deliveries for entry in worker.seen} == {1}

    def test_a_connection_with_replies_to_come_is_not_used_again(self, any_redis_url: str) -> None:
        async def leave_early(url: str) -> object:
            link = Link(url, 10)
            async with link.hold() as connection:
                await connection.send([("PING",)])
            said = await link.call("ECHO", "mine")
            await link.close()
            return said

        with Proxy(any_redis_url, delay_s=0.05) as proxy:
            assert asyncio.run(leave_early(proxy.url)) == b"mine"


class TestReclaim:
    def test_an_idle_worker_takes_at_once_what_another_gives_back(
        self, client: redis.Redis, any_redis_url: str
    ) -> None:
        patient = StreamConfig(claim_idle_ms=3_600_000)  # a third of an hour lies between two rounds of maintenance
        with StreamWorker(patient, any_redis_url, "leaving", limit=30, answering=False) as leaving:
            names = add(client, 30)
            wait_for(lambda: len(leaving.seen) == 30, 10, "a full worker")
            with StreamWorker(patient, any_redis_url, "idle") as idle:
                wait_for(lambda: idle.source.health().ok, 10, "a connected worker")
                leaving.source.close()
                wait_for_answers(client, names)
                assert {entry.deliveries for entry in idle.seen} == {2}

    def test_the_entries_of_a_dead_worker_are_taken_over(self, client: redis.Redis, any_redis_url: str) -> None:
        names = add(client, 200)
        deliver(client, "ghost", 150)
        with StreamWorker(SOON, any_redis_url, "w1") as worker:
            wait_for_answers(client, names)
            assert Counter(entry.deliveries for entry in worker.seen) == {1: 50, 2: 150}
            assert worker.source.stats().reclaimed == 150
            wait_for(lambda: consumers(client) == {"w1"}, 10, "the ghost's removal")

    def test_a_consumer_that_owns_something_is_never_removed(self, client: redis.Redis, any_redis_url: str) -> None:
        add(client, 2)
        deliver(client, "ghost", 1)
        deliver(client, "empty", 1)
        client.xack(CONFIG.tasks, CONFIG.group, pending(client)[1]["message_id"])
        with StreamWorker(SOON, any_redis_url, "w1", limit=0):
            wait_for(lambda: "empty" not in consumers(client), 10, "the removal of the one that owns nothing")
            time.sleep(SOON.claim_idle_ms / 1000)
            assert "ghost" in consumers(client)
        assert [row["consumer"] for row in pending(client)] == ["ghost"]

    def test_a_slow_worker_is_not_robbed(self, client: redis.Redis, any_redis_url: str) -> None:
        names = add(client, 50)
        with StreamWorker(SOON, any_redis_url, "slow", answering=False) as slow:
            wait_for(lambda: len(slow.seen) == 50, 10, "a full worker")
            with StreamWorker(SOON, any_redis_url, "idle") as idle:
                time.sleep(3 * SOON.claim_idle_ms / 1000)
                assert idle.seen == []
                assert {(row["consumer"], row["times_delivered"]) for row in pending(client)} == {("slow", 1)}
                slow.answer_all()
                wait_for_answers(client, names)

    def test_a_worker_finds_what_its_former_life_left(self, client: redis.Redis, any_redis_url: str) -> None:
        names = add(client, 700)
        deliver(client, "w1", 650)
        with StreamWorker(CONFIG, any_redis_url, "w1") as worker:
            wait_for_answers(client, names)
            assert Counter(entry.deliveries for entry in worker.seen) == {1: 50, 2: 650}

    @pytest.mark.parametrize("owner", ["ghost", "w1"])
    def test_deleted_entries_are_cleared(self, client: redis.Redis, any_redis_url: str, owner: str) -> None:
        names = add(client, 10)
        gone = deliver(client, owner, 8)[:5]
        client.xdel(CONFIG.tasks, *gone[:4])
        client.xclaim(CONFIG.tasks, CONFIG.group, owner, 0, [gone[4]], retrycount=5, justid=True)
        client.xdel(CONFIG.tasks, gone[4])
        with StreamWorker(SOON, any_redis_url, "w1"):
            wait_for_answers(client, names[5:])
        assert client.xlen(CONFIG.dead_letter) == 0

    def test_what_was_tried_too_often_goes_to_the_dead_letter(self, client: redis.Redis, any_redis_url: str) -> None:
        config = StreamConfig(claim_idle_ms=300, max_deliveries=3, routes={"shop": "embedding_results:shop"})
        fields = {"task_id": "poison", "text": "kills", "app": "shop", "raw": "\udcff"}
        entry_id = client.xadd(
            CONFIG.tasks, {name: value.encode(errors="surrogateescape") for name, value in fields.items()}
        )
        (good,) = add(client, 1)
        deliver(client, "ghost", 1, times=3)
        deliver(client, "ghost", 1, times=2)
        before = int(time.time() * 1000)
        with StreamWorker(config, any_redis_url, "w1") as worker:
            wait_for_answers(client, [good])
            wait_for(lambda: client.xlen("embedding_results:shop"), 10, "the answer of the dead task")
            assert [entry.raw["task_id"] for entry in worker.seen] == [good]
            assert worker.source.stats().dead == 1
        ((_, dead),) = client.xrange(CONFIG.dead_letter)
        assert before <= int(dead.pop("dead_at")) <= time.time() * 1000
        assert dead.pop("dead_detail").startswith("it was delivered 3 times")
        assert dead == {
            **fields,
            "dead_reason": "max_deliveries",
            "deliveries": "3",
            "original_stream": CONFIG.tasks,
            "original_id": entry_id,
        }
        ((_, answer),) = client.xrange("embedding_results:shop")
        assert (answer["task_id"], answer["error"], answer["source"]) == ("poison", "dead_letter", entry_id)

    def test_a_suspect_is_tried_alone(self, client: redis.Redis, any_redis_url: str) -> None:
        names = add(client, 3)
        deliver(client, "w1", 1, times=4)
        deliver(client, "w1", 1, times=1)
        with StreamWorker(CONFIG, any_redis_url, "w1", answering=False) as worker:
            wait_for(lambda: worker.seen, 10, "the harmless one")
            time.sleep(0.3)
            assert [entry.raw["task_id"] for entry in worker.seen] == names[1:2]
            worker.answer_all()
            wait_for_answers(client, names)
        assert [entry.deliveries for entry in worker.seen] == [2, 5, 1]

    def test_another_s_entries_are_left_alone(self, client: redis.Redis, any_redis_url: str) -> None:
        add(client, 2)
        (theirs,) = deliver(client, "ghost", 1)
        (mine,) = deliver(client, "w1", 1)

        async def deal() -> None:
            link = Link(any_redis_url, 10)
            group = Group(CONFIG, "w1", link)
            assert await group.own() == {mine: 1}
            assert await group.keep([theirs, mine, "1-1"]) == {mine}
            assert [entry_id for entry_id, _ in await group.take({theirs: 3, mine: 3})] == [mine]
            await group.give_back({theirs: 2, mine: 2})
            assert not await group.leave()
            await link.close()

        asyncio.run(deal())
        rows = {row["message_id"]: (row["consumer"], row["times_delivered"]) for row in pending(client)}
        assert rows == {theirs: ("ghost", 1), mine: ("w1", 2)}

    def test_a_dead_letter_that_takes_nothing_does_not_stop_the_stream(
        self, client: redis.Redis, any_redis_url: str
    ) -> None:
        client.set(CONFIG.dead_letter, "not a stream")
        names = add(client, 20)
        (dead,) = deliver(client, "w1", 1, times=5)
        with StreamWorker(SOON, any_redis_url, "w1"):
            wait_for(lambda: answers(client) == Counter(names[1:]), 10, "the other answers")
            assert [row["message_id"] for row in pending(client)] == [dead]
            client.delete(CONFIG.dead_letter)
            wait_for(lambda: client.xlen(CONFIG.dead_letter) == 1, 10, "the dead letter")
        wait_for_answers(client, names)

    def test_an_entry_of_thousands_of_fields_can_be_buried(self, client: redis.Redis, any_redis_url: str) -> None:
        client.xadd(CONFIG.tasks, {str(number): "x" for number in range(5000)})
        deliver(client, "w1", 1, times=5)
        with StreamWorker(SOON, any_redis_url, "w1"):
            wait_for(lambda: client.xlen(CONFIG.dead_letter) == 1, 10, "the dead letter")
            wait_for(lambda: client.xlen(CONFIG.tasks) == 0, 10, "an empty stream")
        assert client.xlen(CONFIG.results) == 1

    def test_only_the_poison_dies_of_its_poison(self, redis_url: str) -> None:
        with redis.Redis.from_url(redis_url, decode_responses=True) as client:
            self.poison(client, redis_url)

    def poison(self, client: redis.Redis, url: str) -> None:
        names = add(client, 100)
        poison = client.xadd(CONFIG.tasks, {"task_id": "poison", "text": "poison"})
        names += add(client, 100, start=100)
        lives = 0

        def live() -> bool:
            nonlocal lives
            if not process or process[-1].poll() is not None:
                lives += 1
                command = [sys.executable, "-m", "tests.stream_worker", url, "w1", "60000"]
                process.append(subprocess.Popen(command))
            return bool(client.xlen(CONFIG.dead_letter))

        process: list[subprocess.Popen[bytes]] = []
        try:
            wait_for(live, 150, "the dead letter")  # six processes start
            wait_for_answers(client, [*names, "poison"])
            process[-1].terminate()
            assert process[-1].wait(60) == 0
        finally:
            process[-1].kill()
            process[-1].wait()
        assert lives == 6
        ((_, dead),) = client.xrange(CONFIG.dead_letter)
        assert (dead["original_id"], dead["deliveries"]) == (poison, "5")
        errors = [fields["task_id"] for _, fields in client.xrange(CONFIG.results) if fields["status"] == "error"]
        assert errors == ["poison"]
        assert consumers(client) == set()


class TestLeaving:
    def test_reading_stops_at_once_and_the_consumer_leaves(self, client: redis.Redis, any_redis_url: str) -> None:
        config = StreamConfig(block_ms=60_000)
        worker = StreamWorker(config, any_redis_url, "w1", timeout_s=130)
        with worker:
            wait_for_answers(client, add(client, 10))
            wait_for(lambda: any("b" in row["flags"] for row in client.client_list()), 10, "a wait for new entries")
            worker.source.stop_reading()
            began = time.monotonic()
            wait_for(lambda: not any("b" in row["flags"] for row in client.client_list()), 10, "the end of the wait")
            late = add(client, 5)
        assert time.monotonic() - began < 5
        assert len(worker.seen) == 10
        assert consumers(client) == set()
        with StreamWorker(CONFIG, any_redis_url, "w2"):
            wait_for(lambda: set(late) <= answers(client).keys(), 10, "the late answers")

    def test_what_was_read_is_finished_before_the_end(self, client: redis.Redis, any_redis_url: str) -> None:
        with StreamWorker(SOON, any_redis_url, "w1", limit=30, pause_s=0.5) as worker:
            names = add(client, 100)
            wait_for(lambda: len(worker.seen) == 30, 10, "a full worker")
            worker.source.stop_reading()
            wait_for(lambda: not worker.held, 10, "the end of the work")
        assert answers(client) == Counter(names[:30])
        assert consumers(client) == set()

    def test_what_is_given_back_is_another_s_at_once(self, client: redis.Redis, any_redis_url: str) -> None:
        with StreamWorker(CONFIG, any_redis_url, "w1") as one:
            one.answering = False
            names = add(client, 20)
            wait_for(lambda: len(one.seen) == 20, 10, "a full worker")
            one.source.stop_reading()
            for entry in one.seen[:15]:
                one.source.given_back(entry.origin.id)
        assert consumers(client) == {"w1"}, "it owns something"
        assert Counter(row["times_delivered"] for row in pending(client)) == {0: 15, 1: 5}
        with StreamWorker(StreamConfig(claim_idle_ms=900), any_redis_url, "w2") as two:
            wait_for_answers(client, names)
            assert Counter(entry.deliveries for entry in two.seen) == {1: 15, 2: 5}
            wait_for(lambda: consumers(client) == {"w2"}, 20, "the removal of the first")

    def test_what_is_on_its_way_from_redis_is_still_finished(self, client: redis.Redis, any_redis_url: str) -> None:
        with Proxy(any_redis_url, delay_s=0.15) as proxy, StreamWorker(CONFIG, proxy.url, "w1") as worker:
            wait_for(lambda: any("b" in row["flags"] for row in client.client_list()), 10, "a read that waits")
            names = add(client, 1)
            wait_for(lambda: pending(client), 10, "its answer to be under way")
            worker.source.stop_reading()
            wait_for_answers(client, names)
            assert not pending(client)
        assert consumers(client) == set(), "and the consumer has left"

    def test_closing_twice_or_without_start(self, redis_url: str) -> None:
        worker = StreamWorker(CONFIG, redis_url, "w1")
        worker.stop()
        with StreamWorker(CONFIG, redis_url, "w1") as worker:
            worker.stop()


class TestSurvival:
    def test_redis_may_come_later(self, own_server: Server) -> None:
        own_server.kill()
        with StreamWorker(CONFIG, own_server.url, "w1") as worker:
            wait_for(lambda: not worker.source.health().ok, 10, "red health")
            own_server.start()
            with own_server.client() as client:
                wait_for_answers(client, add(client, 10))
            wait_for(lambda: worker.source.health().ok, 10, "green health")

    def test_what_a_lost_reply_held_is_found_and_was_not_tried(self, client: redis.Redis, any_redis_url: str) -> None:
        with StreamWorker(CONFIG, any_redis_url, "w1", limit=10) as worker:
            wait_for_answers(client, add(client, 1))
            worker.limit = 0
            wait_for(lambda: not any("b" in row["flags"] for row in client.client_list()), 10, "the end of the read")
            names = add(client, 5, start=1)
            deliver(client, "w1", 5)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            worker.limit = 10
            wait_for_answers(client, ["task-0", *names])
            assert {entry.deliveries for entry in worker.seen} == {1}

    def test_a_link_that_breaks_but_brings_entries_is_not_left_alone(
        self, client: redis.Redis, any_redis_url: str
    ) -> None:
        attempts: list[int] = []

        class Noted(Backoff):
            def delay(self, attempt: int) -> float:
                attempts.append(attempt)
                return 0.0

        with StreamWorker(CONFIG, any_redis_url, "w1") as worker:
            worker.source._backoff = Noted()
            for number in range(6):
                (name,) = add(client, 1, start=number)
                wait_for(lambda name=name: name in answers(client), 10, "the answer")
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                wait_for(lambda number=number: len(attempts) > number, 10, "the next attempt")
        assert set(attempts) == {1}

    def test_closing_while_redis_is_away(self, own_server: Server) -> None:
        with StreamWorker(CONFIG, own_server.url, "w1") as worker:
            own_server.kill()
            wait_for(lambda: not worker.source.health().ok, 10, "red health")
            began = time.monotonic()
            worker.source.close()
        assert time.monotonic() - began < 3

    def test_everything_may_be_flushed(self, client: redis.Redis, any_redis_url: str) -> None:
        with StreamWorker(CONFIG, any_redis_url, "w1") as worker:
            wait_for_answers(client, add(client, 100))
            worker.answering = False
            add(client, 10)
            wait_for(lambda: len(worker.held) == 10, 10, "entries in the works")
            client.flushall()
            worker.answer_all()
            wait_for(lambda: not worker.held, 10, "empty hands")
            wait_for_answers(client, add(client, 50, start=1000))
            wait_for(lambda: worker.source.health().ok, 10, "green health")

    def test_a_replica_is_waited_for(self, client: redis.Redis, any_redis_url: str) -> None:
        with StreamWorker(SOON, any_redis_url, "w1") as worker:
            wait_for_answers(client, add(client, 10))
            client.replicaof("127.0.0.1", 1)
            try:
                wait_for(lambda: not worker.source.health().ok, 10, "red health")
            finally:
                client.replicaof("NO", "ONE")
            wait_for_answers(client, [*answers(client), *add(client, 10, start=10)])
            wait_for(lambda: worker.source.health().ok, 10, "green health")

    def test_kills_pauses_and_cuts_lose_and_double_nothing(self, durable: Server) -> None:
        config = StreamConfig(claim_idle_ms=500, block_ms=200)
        names: list[str] = []
        with (
            durable.client() as client,
            Proxy(durable.url, cut_after=40_000) as proxy,
            StreamWorker(config, proxy.url, "w1", limit=100, pause_s=0.01, timeout_s=1) as one,
            StreamWorker(config, proxy.url, "w2", limit=100, pause_s=0.01, timeout_s=1) as two,
        ):
            for harm in (lambda: None, durable.kill, durable.pause, lambda: None):
                names += add(client, 400, start=len(names))
                harm()
                if harm == durable.pause:
                    time.sleep(1.5)  # longer than the workers' patience
                    durable.resume()
                elif harm == durable.kill:
                    durable.start()
                enough = len(names) - 300
                wait_for(lambda enough=enough: client.xlen(CONFIG.results) >= enough, 30, "some progress")
            wait_for_answers(client, names, timeout=30)
            assert proxy.cuts > 5
            assert client.xlen(CONFIG.dead_letter) == 0
            assert one.source.stats().read + two.source.stats().read >= len(names)
