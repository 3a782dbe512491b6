from __future__ import annotations

import base64
import json
import struct
import time
from collections import Counter
from contextlib import closing
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, cast

import pytest
import redis

from legit_embedding.config import StreamConfig
from legit_embedding.errors import TaskError
from legit_embedding.redis_io.connection import Backoff
from legit_embedding.sinks.backlog import Limits
from legit_embedding.sinks.writer import StreamWriter
from legit_embedding.wire.result import Embedded, Origin, Result, Timings
from legit_embedding.wire.task import Address
from tests.proxy import Proxy
from tests.servers import Server, ServerKind, available_kinds, free_port
from tests.told import put
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from legit_embedding.wire.result import Written

CONFIG = StreamConfig()
QUICK = Backoff(first_s=0.02, cap_s=0.2)
VECTOR = base64.b64encode(struct.pack("<4f", 0.5, 0.5, 0.5, 0.5)).decode()
GOOD = Embedded("text", "minilm", 4, "base64_fp32", VECTOR)


class Settled:
    """Collects what the writer confirms."""

    def __init__(self) -> None:
        self.written: list[Written] = []
        self._lock = Lock()

    def __call__(self, written: Written) -> None:
        with self._lock:
            self.written.append(written)

    def wait(self, count: int, timeout: float = 20) -> list[Written]:
        wait_for(lambda: len(self.written) >= count, timeout, f"{count} confirmed results")
        return self.written


@pytest.fixture
def settled() -> Settled:
    return Settled()


@pytest.fixture
def client(any_redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(any_redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def writer(any_redis_url: str) -> Iterator[StreamWriter]:
    writer = make_writer(any_redis_url)
    with closing(writer):
        yield writer


@pytest.fixture(params=available_kinds())
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of each kind for one test alone, which keeps confirmed writes."""
    with Server(cast("ServerKind", request.param), tmp_path / "server", durable=True) as server:
        yield server


@pytest.fixture(params=available_kinds())
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A cluster of one, which holds every slot and still refuses what spans two of them."""
    kind = cast("ServerKind", request.param)
    options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    with Server(kind, tmp_path / "server", options=options) as server:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(lambda: client.cluster("INFO")["cluster_state"] == "ok", 10, "the cluster")
        yield server


def make_writer(url: str, config: StreamConfig = CONFIG, **options: Any) -> StreamWriter:
    writer = StreamWriter(config, url, "worker-1", **({"backoff": QUICK} | options))
    writer.start()
    return writer


def result(task_id: str, origin: Origin | None = None, outcome: Embedded | TaskError = GOOD, **address: Any) -> Result:
    return Result(Address(task_id, **address), origin or Origin("local", ""), outcome, Timings(1, 2, 3))


def deliver(client: redis.Redis, count: int, config: StreamConfig = CONFIG) -> list[str]:
    """Put entries into the task stream and read them as a worker does; returns their ids, all pending."""
    client.xgroup_create(config.tasks, config.group, "0", mkstream=True)
    with client.pipeline(transaction=False) as pipeline:
        for number in range(count):
            pipeline.xadd(config.tasks, {"text": f"hello {number}"})
        ids = pipeline.execute()
    client.xreadgroup(config.group, "me", {config.tasks: ">"}, count=count)
    return cast("list[str]", ids)


def put_all(writer: StreamWriter, results: list[Result], settled: Callable[[Written], None]) -> None:
    for each in results:
        put(writer, each, settled)


def entries(client: redis.Redis, stream: str = CONFIG.results) -> list[dict[str, str]]:
    return [fields for _, fields in client.xrange(stream)]


def pending(client: redis.Redis) -> int:
    return int(client.xpending(CONFIG.tasks, CONFIG.group)["pending"])


class TestCommit:
    def test_a_stream_task_is_answered_acknowledged_and_deleted(
        self, client: redis.Redis, writer: StreamWriter, settled: Settled
    ) -> None:
        (entry_id,) = deliver(client, 1)
        put(writer, result("42", Origin("stream", entry_id), app="shop", metadata='{"sku":"ä1"}'), settled)
        (written,) = settled.wait(1)
        ((result_id, fields),) = client.xrange(CONFIG.results)
        assert (written.stream, written.entry_id) == (CONFIG.results, result_id)
        assert written.receipt() == {
            "task_id": "42",
            "status": "ok",
            "model": "minilm",
            "dim": 4,
            "stream": CONFIG.results,
            "entry_id": result_id,
        }
        assert fields == {
            "task_id": "42",
            "status": "ok",
            "kind": "text",
            "model": "minilm",
            "dim": "4",
            "encoding": "base64_fp32",
            "embedding": VECTOR,
            "app": "shop",
            "metadata": '{"sku":"ä1"}',
            "source": entry_id,
            "worker": "worker-1",
            "prep_ms": "1",
            "queue_ms": "2",
            "compute_ms": "3",
        }
        assert pending(client) == 0
        assert client.xlen(CONFIG.tasks) == 0

    def test_an_error_is_answered_like_a_vector(
        self, client: redis.Redis, writer: StreamWriter, settled: Settled
    ) -> None:
        (entry_id,) = deliver(client, 1)
        put(writer, result("42", Origin("stream", entry_id), TaskError("undecodable", "not an image")), settled)
        settled.wait(1)
        (fields,) = entries(client)
        assert fields.items() >= {"status": "error", "error": "undecodable", "detail": "not an image"}.items()
        assert pending(client) == 0

    def test_an_entry_that_was_settled_elsewhere_is_not_answered_again(
        self, client: redis.Redis, writer: StreamWriter, settled: Settled
    ) -> None:
        here, elsewhere = deliver(client, 2)
        client.xack(CONFIG.tasks, CONFIG.group, elsewhere)
        put_all(writer, [result(i, Origin("stream", i)) for i in (elsewhere, here, here)], settled)
        settled.wait(3)
        assert [fields["source"] for fields in entries(client)] == [here]
        assert sorted(written.entry_id != "" for written in settled.written) == [False, False, True]
        stats = writer.stats()
        assert (stats.written, stats.already, stats.pending) == (1, 2, 0)

    def test_without_its_group_nothing_is_pending_and_nothing_is_answered(
        self, client: redis.Redis, writer: StreamWriter, settled: Settled
    ) -> None:
        (entry_id,) = deliver(client, 1)
        client.flushall()
        put(writer, result("1", Origin("stream", entry_id)), settled)
        settled.wait(1)
        assert client.keys() == []

    def test_a_celery_task_is_answered_once(self, client: redis.Redis, writer: StreamWriter, settled: Settled) -> None:
        put_all(writer, [result("1", Origin("celery", "abc:0"))], settled)
        settled.wait(1)
        put_all(writer, [result("1", Origin("celery", "abc:0")), result("2", Origin("celery", "abc:1"))], settled)
        first, again, other = settled.wait(3)
        assert [fields["source"] for fields in entries(client)] == ["abc:0", "abc:1"]
        assert first.entry_id == again.entry_id != other.entry_id
        assert client.get("embedding:written:abc:0") == first.entry_id
        assert 0 < client.ttl("embedding:written:abc:0") <= CONFIG.dedupe_s
        assert (writer.stats().written, writer.stats().already) == (2, 1)

    def test_the_entry_stays_where_delete_on_ack_is_off(
        self, client: redis.Redis, any_redis_url: str, settled: Settled
    ) -> None:
        (entry_id,) = deliver(client, 1)
        with closing(make_writer(any_redis_url, StreamConfig(delete_on_ack=False))) as writer:
            put(writer, result("1", Origin("stream", entry_id)), settled)
            settled.wait(1)
        assert pending(client) == 0
        assert client.xlen(CONFIG.tasks) == 1

    @pytest.mark.parametrize(("maxlen", "least", "most"), [(100, 100, 300), (0, 2000, 2000)])
    def test_only_result_streams_are_trimmed(
        self, client: redis.Redis, any_redis_url: str, settled: Settled, maxlen: int, least: int, most: int
    ) -> None:
        ids = deliver(client, 5)
        with closing(make_writer(any_redis_url, StreamConfig(result_maxlen=maxlen))) as writer:
            put_all(writer, [result(str(i)) for i in range(2000)], settled)
            settled.wait(2000)
        assert least <= client.xlen(CONFIG.results) <= most
        assert client.xlen(CONFIG.tasks) == len(ids)

    def test_anything_that_is_text_gets_through(
        self, client: redis.Redis, any_redis_url: str, writer: StreamWriter, settled: Settled
    ) -> None:
        task_ids = ["é\x00\r\n$5\r\n", "\udcff\udc80", "\ud800", "*" * 500, "0"]
        put_all(writer, [result(i, Origin("celery", i), metadata=json.dumps({"same": i})) for i in task_ids], settled)
        settled.wait(5)
        with redis.Redis.from_url(any_redis_url) as raw:
            got = [fields for _, fields in raw.xrange(CONFIG.results)]
        names = [task_ids[0].encode(), b"\xff\x80", b"\\ud800", b"*" * 500, b"0"]
        assert [fields[b"task_id"] for fields in got] == names
        assert json.loads(got[0][b"metadata"]) == {"same": task_ids[0]}

    def test_scripts_that_the_server_forgot_are_sent_again(
        self, client: redis.Redis, writer: StreamWriter, settled: Settled
    ) -> None:
        for count in (1, 2):
            client.script_flush()
            put(writer, result("1"), settled)
            settled.wait(count)
        assert writer.stats().retries == 0


class TestRouting:
    def test_each_answer_goes_to_its_own_stream(
        self, client: redis.Redis, any_redis_url: str, settled: Settled
    ) -> None:
        config = StreamConfig(routes={"shop": "embedding_results:shop"})
        with closing(make_writer(any_redis_url, config)) as writer:
            put(writer, result("default"), settled)
            put(writer, result("route", app="shop"), settled)
            put(writer, result("reply", app="shop", reply_to="embedding_results:mine"), settled)
            put(writer, result("refused", reply_to="elsewhere"), settled)
            settled.wait(4)
        assert [fields["task_id"] for fields in entries(client, "embedding_results:shop")] == ["route"]
        assert [fields["task_id"] for fields in entries(client, "embedding_results:mine")] == ["reply"]
        default, refused = entries(client)
        assert default["task_id"] == "default"
        assert (refused["task_id"], refused["error"]) == ("refused", "reply_to_refused")
        assert "embedding" not in refused
        assert not client.exists("elsewhere")
        assert writer.stats().refused == 1

    def test_a_stream_that_takes_no_entry_costs_itself_only(
        self, client: redis.Redis, writer: StreamWriter, settled: Settled
    ) -> None:
        client.set("embedding_results:text", "not a stream")
        ids = deliver(client, 3)
        targets = [None, "embedding_results:text", None]
        results = [result(i, Origin("stream", i), reply_to=to) for i, to in zip(ids, targets, strict=True)]
        put_all(writer, results, settled)
        settled.wait(3)
        answers = {fields["task_id"]: fields for fields in entries(client)}
        assert [answers[i]["status"] for i in ids] == ["ok", "error", "ok"]
        assert answers[ids[1]]["error"] == "reply_to_refused"
        assert "WRONGTYPE" in answers[ids[1]]["detail"]
        assert pending(client) == 0
        assert writer.health().ok

    def test_a_stream_that_the_user_may_not_touch_costs_itself_only(
        self, client: redis.Redis, any_redis_url: str, settled: Settled
    ) -> None:
        rights = ["~embedding_tasks", "~embedding_results", "~embedding:written:*", "+@all"]
        client.execute_command("ACL", "SETUSER", "worker", "on", ">secret", *rights)
        url = any_redis_url.replace("redis://", "redis://worker:secret@")
        try:
            with closing(make_writer(url)) as writer:
                targets = ["embedding_results:theirs" if number == 5 else None for number in range(20)]
                put_all(writer, [result(str(n), reply_to=to) for n, to in enumerate(targets)], settled)
                settled.wait(20)
        finally:
            client.execute_command("ACL", "DELUSER", "worker")
        answers = {fields["task_id"]: fields.get("error") for fields in entries(client)}
        assert answers == {str(n): "reply_to_refused" if n == 5 else None for n in range(20)}


class TestBounds:
    def test_batches_are_in_flight_together_and_room_is_told(self, redis_url: str, settled: Settled) -> None:
        room = Event()
        limits = Limits(pending=40, batch=4, in_flight=3)
        with (
            Proxy(redis_url, delay_s=0.1) as proxy,
            closing(make_writer(proxy.url, on_room=room.set, limits=limits)) as writer,
        ):
            put_all(writer, [result(str(i)) for i in range(40)], settled)
            assert not writer.has_room()
            wait_for(lambda: writer.stats().in_flight == 3, 10, "three batches in flight")
            assert room.wait(10)
            assert writer.has_room()
            assert writer.drain(10)
        assert len(settled.written) == 40
        assert writer.stats().pending_bytes == 0

    def test_a_callback_that_raises_harms_nobody(
        self, redis_url: str, settled: Settled, caplog: pytest.LogCaptureFixture
    ) -> None:
        def raises(_: Written) -> None:
            raise RuntimeError("mine")

        with closing(make_writer(redis_url, on_room=lambda: 1 // 0, limits=Limits(pending=1))) as writer:
            put(writer, result("1"), raises)
            assert not writer.has_room() or writer.drain(10)
            put(writer, result("2"), settled)
            settled.wait(1)
            assert writer.health().ok
        assert "mine" in caplog.text

    def test_close_returns_what_is_unwritten(self, own_server: Server, settled: Settled) -> None:
        writer = make_writer(own_server.url, limits=Limits(batch=2, in_flight=2))
        put(writer, result("0"), settled)
        settled.wait(1)
        own_server.pause()
        put_all(writer, [result(str(i)) for i in range(1, 10)], settled)
        wait_for(lambda: writer.stats().in_flight == 2, 10, "two batches in flight")
        assert not writer.drain(0.05)
        began = time.monotonic()
        unwritten = writer.close(0.1)
        assert time.monotonic() - began < 5
        assert {each.address.task_id for each in unwritten} == {str(i) for i in range(1, 10)}
        assert writer.close() == []
        put(writer, result("late"), settled)
        assert len(settled.written) == 1
        own_server.resume()

    def test_close_without_start(self, redis_url: str, settled: Settled) -> None:
        writer = StreamWriter(CONFIG, redis_url, "worker-1")
        put(writer, result("1"), settled)
        assert len(writer.close()) == 1


class TestOutages:
    def test_redis_may_come_later(self, own_server: Server, settled: Settled, caplog: pytest.LogCaptureFixture) -> None:
        own_server.kill()
        url = own_server.url.replace("redis://", "redis://:hunter2@")
        with closing(make_writer(url)) as writer:
            put(writer, result("1"), settled)
            wait_for(lambda: writer.stats().retries > 2, 10, "some attempts")
            health = writer.health()
            assert not health.ok
            assert str(own_server.port) in health.error
            assert time.time() - 10 < health.since <= time.time()
            own_server.start()
            with own_server.client() as client:
                client.execute_command("CONFIG", "SET", "requirepass", "hunter2")
            settled.wait(1)
            wait_for(lambda: writer.health().ok, 10, "green health")
        lines = [record.getMessage() for record in caplog.records]
        assert [line.split(",")[0].split(" after")[0] for line in lines] == [
            f"writing results to {own_server.url} is out of order",
            f"writing results to {own_server.url} works again",
        ]
        assert "hunter2" not in caplog.text

    @pytest.mark.parametrize(
        ("breaks", "mends"),
        [
            (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
            (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
            (("CONFIG", "SET", "min-replicas-to-write", "1"), ("CONFIG", "SET", "min-replicas-to-write", "0")),
        ],
        ids=["OOM", "READONLY", "NOREPLICAS"],
    )
    def test_a_server_that_takes_no_writes_is_waited_for(
        self, client: redis.Redis, writer: StreamWriter, settled: Settled, breaks: list[str], mends: list[str]
    ) -> None:
        (entry_id,) = deliver(client, 1)
        client.execute_command(*breaks)
        try:
            put(writer, result("1", Origin("stream", entry_id), reply_to="embedding_results:mine"), settled)
            wait_for(lambda: writer.stats().retries > 1 and not writer.health().ok, 10, "red health")
            assert pending(client) == 1
        finally:
            client.execute_command(*mends)
        settled.wait(1)
        wait_for(lambda: writer.health().ok, 10, "green health")
        assert [fields["status"] for fields in entries(client, "embedding_results:mine")] == ["ok"]
        assert pending(client) == 0

    @pytest.mark.parametrize("has_group", [True, False])
    def test_a_replica_that_does_not_know_the_entry_is_not_believed(
        self, client: redis.Redis, writer: StreamWriter, settled: Settled, has_group: bool
    ) -> None:
        if has_group:
            deliver(client, 1)
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            put(writer, result("1", Origin("stream", "99-0")), settled)
            wait_for(lambda: writer.stats().retries > 1 and "READONLY" in writer.health().error, 10, "red health")
            assert settled.written == []
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")
        settled.wait(1)

    def test_a_killed_server_loses_and_doubles_nothing(self, durable: Server, settled: Settled) -> None:
        with durable.client() as client:
            ids = deliver(client, 1000)
        with closing(make_writer(durable.url, limits=Limits(batch=16))) as writer:
            for number, entry_id in enumerate(ids):
                put(writer, result(entry_id, Origin("stream", entry_id)), settled)
                put(writer, result(f"c{entry_id}", Origin("celery", f"c{entry_id}")), settled)
                if number in {300, 600}:
                    settled.wait(number)
                    durable.kill()
                    durable.start()
            settled.wait(2000)
        self.assert_once(durable, ids)

    def test_a_frozen_server_loses_and_doubles_nothing(self, durable: Server, settled: Settled) -> None:
        with durable.client() as client:
            ids = deliver(client, 500)
        with closing(make_writer(durable.url, timeout_s=0.3, limits=Limits(batch=16))) as writer:
            put_all(writer, [result(i, Origin("stream", i)) for i in ids[:100]], settled)
            settled.wait(100)
            durable.pause()
            put_all(writer, [result(i, Origin("stream", i)) for i in ids[100:]], settled)
            put_all(writer, [result(f"c{i}", Origin("celery", f"c{i}")) for i in ids], settled)
            # What was sent before the timeout is done by the server when it wakes, beside the repeated attempts.
            # Those on connections that were there before are the last to time out: so every batch has, and some twice.
            wait_for(lambda: writer.stats().retries >= 2 * Limits().in_flight, 20, "attempts that timed out")
            durable.resume()
            settled.wait(1000)
        self.assert_once(durable, ids)
        assert writer.stats().already > 0

    def test_cut_connections_lose_and_double_nothing(self, durable: Server, settled: Settled) -> None:
        with durable.client() as client:
            ids = deliver(client, 1000)
        with Proxy(durable.url, cut_after=20_000) as proxy:
            with closing(make_writer(proxy.url, limits=Limits(batch=16))) as writer:
                put_all(writer, [result(i, Origin("stream", i)) for i in ids], settled)
                put_all(writer, [result(f"c{i}", Origin("celery", f"c{i}")) for i in ids], settled)
                wait_for(lambda: len(settled.written) >= 1000, 30, "half the results")
                proxy.cut_after = 0
                settled.wait(2000)
            assert proxy.cuts > 5
        self.assert_once(durable, ids)

    def test_torn_slots_are_written_then_acknowledged(self, cluster: Server, settled: Settled) -> None:
        with cluster.client() as client, closing(make_writer(cluster.url)) as writer:
            here, text, elsewhere, unread = deliver(client, 4)
            client.xack(CONFIG.tasks, CONFIG.group, elsewhere)
            client.set("embedding_results:text", "not a stream")
            put(writer, result("late", Origin("stream", elsewhere)), settled)
            put(writer, result("now", Origin("stream", here)), settled)
            put(writer, result("text", Origin("stream", text), reply_to="embedding_results:text"), settled)
            put(writer, result("celery", Origin("celery", "c")), settled)
            put(writer, result("local"), settled)
            settled.wait(5)
            put(writer, result("again", Origin("celery", "c")), settled)
            again = settled.wait(6)[-1]
            recorded = {fields["task_id"]: entry_id for entry_id, fields in client.xrange(CONFIG.results)}
            assert recorded.keys() == {"now", "text", "celery", "local"}
            assert again.entry_id == recorded["celery"] == client.get("embedding:written:c")
            assert [each for each, _ in client.xrange(CONFIG.tasks)] == [elsewhere, unread]
            assert pending(client) == 1
            assert 0 < client.ttl("embedding:written:c") <= CONFIG.dedupe_s

    def assert_once(self, server: Server, ids: list[str]) -> None:
        with server.client() as client:
            answered = Counter(fields["task_id"] for fields in entries(client))
            assert answered.keys() <= {*ids, *(f"c{i}" for i in ids)}
            assert answered == Counter({*ids, *(f"c{i}" for i in ids)})
            assert pending(client) == 0
            assert client.xlen(CONFIG.tasks) == 0
