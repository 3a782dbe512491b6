"""Task and result streams on a Redis Cluster: real nodes, a slot that moves, a master that is killed."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from legit_embedding.config import StreamConfig
from legit_embedding.migration.cutover.store import PlanStore
from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.redis_io.client import make_client
from legit_embedding.redis_io.slots import slot
from legit_embedding.sinks import non_atomic
from legit_embedding.wire.result import Origin, Result
from legit_embedding.wire.task import Address
from tests.stream_worker import StreamWorker, vector
from tests.told import put
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import redis

    from legit_embedding.redis_io.connection import Link
    from legit_embedding.sinks.answer import Answer
    from tests.clusters import Cluster

COUNT = 400


def streams(tag: str) -> StreamConfig:
    return StreamConfig(
        tasks=f"embedding_tasks:{{{tag}}}",
        results=f"embedding_results:{{{tag}}}",
        dead_letter=f"embedding_tasks:{{{tag}}}:dead",
        claim_idle_ms=3000,
        block_ms=200,
        read_count=16,
    )


A = streams("a")


def add(client: redis.Redis, names: Iterable[str], config: StreamConfig = A, **fields: str) -> list[str]:
    added = list(names)
    with client.pipeline(transaction=False) as pipeline:
        for name in added:
            pipeline.xadd(config.tasks, {"task_id": name, "text": name, **fields})
        pipeline.execute()
    return added


def answers(client: redis.Redis, stream: str = A.results) -> Counter[str]:
    return Counter(fields[b"task_id"].decode() for _, fields in client.xrange(stream))


def wait_for_answers(client: redis.Redis, count: int, stream: str = A.results) -> None:
    wait_for(lambda: client.xlen(stream) >= count, 60, f"{count} answers in {stream}")


def assert_once(client: redis.Redis, names: Sequence[str], config: StreamConfig = A) -> None:
    wait_for_answers(client, len(names), config.results)
    wait_for(lambda: client.xlen(config.tasks) == 0, 30, "an empty task stream")
    assert answers(client, config.results) == Counter(names)


def elsewhere(cluster: Cluster, key: str) -> str:
    """A result stream that is allowed, and that another node has than this key's."""
    names = (f"embedding_results:{{{number}}}" for number in range(100))
    return next(name for name in names if cluster.master(name) is not cluster.master(key))


def test_entries_in_and_vectors_out_on_a_node_that_the_address_need_not_name(redis_cluster: Cluster) -> None:
    strangers = [server for server in redis_cluster.servers if server is not redis_cluster.master(A.tasks)]
    url = redis_cluster.url_of(strangers[:1])
    moved = redis_cluster.redirections("MOVED")
    with redis_cluster.client() as client, StreamWorker(A, url, "one"):
        names = add(client, map(str, range(COUNT)))
        assert_once(client, names)
    assert redis_cluster.redirections("MOVED") == moved, "a node was asked for what another has"


def test_everything_that_goes_with_a_stream_is_in_its_slot(
    redis_cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_cluster.client() as client, StreamWorker(A, redis_cluster.url, "one") as worker:
        names = add(client, ["streamed"])
        for attempt in ("first", "again"):
            origin = Origin("celery", "{b}:id")
            put(worker.writer, Result(Address(f"celery-{attempt}"), origin, vector("text")), lambda _: None)
            assert worker.writer.drain(20)
        wait_for_answers(client, 2)
        assert answers(client) == Counter([*names, "celery-first"])
        for server in redis_cluster.servers:
            with server.client() as node:
                assert {slot(key) for key in node.scan_iter()} <= {slot(A.tasks)}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_was_tried_too_often_is_buried_at_once(redis_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("legit_embedding.dead_letter.bury.DeadLetter._in_turn")
    with redis_cluster.client() as client:
        client.xgroup_create(A.tasks, A.group, "0", mkstream=True)
        (name,) = add(client, ["deadly"])
        (entry_id,) = [entry_id for entry_id, _ in client.xreadgroup(A.group, "dead", {A.tasks: ">"})[0][1]]
        client.xclaim(A.tasks, A.group, "one", 0, [entry_id], retrycount=A.max_deliveries)
        with StreamWorker(A, redis_cluster.url, "one"):
            wait_for_answers(client, 1)
        assert answers(client) == Counter([name])
        ((_, fields),) = client.xrange(A.dead_letter)
        assert fields[b"original_id"] == entry_id
        assert client.xlen(A.tasks) == 0


def test_an_answer_in_another_slot_is_at_least_once_and_only_that(
    redis_cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stepwise: list[str] = []

    async def commit(link: Link, answers: Sequence[Answer], *rest: object) -> list[bytes]:
        stepwise.extend(answer.stream for answer in answers)
        return await separately(link, answers, *rest)  # type: ignore[arg-type]

    separately = non_atomic.commit
    monkeypatch.setattr(non_atomic, "commit", commit)
    away = elsewhere(redis_cluster, A.tasks)
    with redis_cluster.client() as client, StreamWorker(A, redis_cluster.url, "one") as worker:
        away_names = [name for number in range(10) for name in add(client, [f"away-{number}"], reply_to=away)]
        names = add(client, map(str, range(COUNT)))
        away_names += add(client, ["late"], reply_to=away)
        wait_for_answers(client, len(away_names), away)
        assert_once(client, names)
        assert answers(client, away) == Counter(away_names)
        assert worker.writer.health().ok
    assert stepwise == [away] * len(away_names)
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert away in warned[0]
    assert "at least once" in warned[0]


def test_a_slot_moves_in_the_middle_of_a_load(redis_cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    cluster = redis_cluster
    at = cluster.master(A.tasks)
    to = cluster.master(elsewhere(cluster, A.tasks))
    with cluster.client() as client, StreamWorker(A, cluster.url, "one", pause_s=0.05, limit=16) as worker:
        names = add(client, map(str, range(COUNT)))
        wait_for_answers(client, COUNT // 8)
        asked, moved = cluster.redirections("ASK"), cluster.redirections("MOVED")

        cluster.begin_move(A.tasks, to)
        cluster.move_key(A.tasks, to)
        # One stream is here and one there: an answer has to wait, and nothing is lost or doubled meanwhile.
        wait_for(lambda: not worker.writer.health().ok, 20, "an answer that waits")
        cluster.move_key(A.results, to)
        names += add(client, (f"asked-{number}" for number in range(COUNT)))
        wait_for(lambda: answers(client).keys() >= {names[0], names[-1]}, 60, "the answers in an open slot")
        assert_once(client, names)
        assert cluster.redirections("ASK") > asked + 2, "the worker has asked nobody"
        assert cluster.master(A.tasks) is at

        # A record is a new key, which the server makes on neither side of a move.
        origin = Origin("celery", "call")
        put(worker.writer, Result(Address("recorded"), origin, vector("text")), lambda _: None)
        wait_for(lambda: not worker.writer.health().ok, 20, "an answer that waits for its record")
        names.append("recorded")
        cluster.end_move(A.tasks, to)
        names += add(client, (f"moved-{number}" for number in range(COUNT)))
        assert_once(client, names)
        assert cluster.redirections("MOVED") > moved
        assert worker.writer.health().ok
    # Answers had to wait, and health said so; reading went on all the time.
    assert not [record for record in caplog.records if "task stream" in record.getMessage()]


def test_a_master_is_killed_in_the_middle_of_a_load(redis_cluster: Cluster) -> None:
    cluster = redis_cluster
    with cluster.client() as client, StreamWorker(A, cluster.url, "one", pause_s=0.02, limit=16):
        names = add(client, map(str, range(COUNT)))
        with cluster.master(A.tasks).client() as node:
            assert node.wait(1, 20_000) == 1
        wait_for_answers(client, COUNT // 8)
        before = cluster.master(A.tasks)
        before.kill()
        wait_for(lambda: cluster.has_moved(A.tasks, before), 30, "another master")
        assert client.xlen(A.results) < COUNT, "all was done before the failover"
        assert_once(client, names)


def test_a_server_that_is_no_cluster_is_waited_for_like_one_that_is_away(redis_url: str) -> None:
    url = redis_url.replace("redis://", "redis+cluster://")
    with StreamWorker(A, url, "one") as worker:
        put(worker.writer, Result(Address("kept"), Origin("local", ""), vector("text")), lambda _: None)
        wait_for(lambda: not (worker.writer.health().ok or worker.source.health().ok), 20, "two that wait")
        for health in (worker.writer.health(), worker.source.health()):
            assert "cluster support disabled" in health.error
        assert len(worker.writer.close()) == 1, "the answer is given up"


def test_the_plan_of_a_migration_may_be_on_a_cluster(redis_cluster: Cluster) -> None:
    with redis_cluster.client() as client:
        store = PlanStore(client)
        assert store.change(lambda plan: plan.model_copy(update={"share": 5})).share == 5
        assert store.read().share == 5


@pytest.mark.parametrize("kind", ["cluster", "one server"])
def test_three_streams_each_with_its_own_workers(kind: str, request: pytest.FixtureRequest) -> None:
    """The streams of docs/scaling.md: producers choose one by a hash, and none waits for another."""
    tags = list("abc")
    if kind == "cluster":
        cluster: Cluster = request.getfixturevalue("redis_cluster")
        url, client = cluster.url, cluster.client()
        tags = list({cluster.master(f"{{{tag}}}").port: tag for tag in "abcdefghijklmnopqrstuvwxyz"}.values())
    else:
        url = request.getfixturevalue("redis_url")
        client = make_client(RedisAddress.of(url), 5)
    configs = [streams(tag) for tag in tags]
    assert len(configs) == 3
    with client, ExitStack() as stack:
        shares = [add(client, (f"{config.tasks}-{number}" for number in range(COUNT)), config) for config in configs]
        first, *others = [StreamWorker(config, url, "worker", pause_s=0.02, limit=32) for config in configs]
        first.answering = False
        for worker in (first, *others):
            stack.enter_context(worker)
        for config, share in zip(configs[1:], shares[1:], strict=True):
            assert_once(client, share, config)
        # The stream whose worker does nothing has held up no other.
        assert client.xlen(configs[0].tasks) == COUNT
        first.answer_all()
        assert_once(client, shares[0], configs[0])
