"""The identity and what is published under it, with a real pipeline and a real server."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis

from legit_embedding.config import Settings
from legit_embedding.errors import ConfigError
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.pool.stream_step import stream_source
from legit_embedding.sources.http.source import HttpSource
from legit_embedding.telemetry import heartbeat as presence
from legit_embedding.telemetry import keys
from legit_embedding.telemetry.heartbeat import Heartbeat
from legit_embedding.telemetry.identity_lock import IdentityLock, IdentityTakenError
from legit_embedding.wire.result import Origin
from tests.servers import free_port
from tests.told import OnOutcome
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import Server


WORKER = "celery@pod-1"
NULL = {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}
HASH = keys.worker(WORKER)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def make(redis_url: str) -> Iterator[Callable[..., tuple[Pipeline, Heartbeat]]]:
    """Make a pipeline that shows itself; neither is started."""
    made: list[tuple[Pipeline, Heartbeat]] = []

    def make(
        url: str = redis_url,
        worker: str = WORKER,
        *,
        exclusive: bool = True,
        on_fatal: Any = None,
        port: int = 0,
        **telemetry: Any,
    ) -> tuple[Pipeline, Heartbeat]:
        settings = Settings(
            redis_url=url,
            device="cpu",
            models={"null": NULL},
            http={"port": port},
            telemetry={"interval_s": 0.1} | telemetry,
        )
        pipeline = Pipeline(settings, worker, 1, on_fatal=on_fatal)
        made.append((pipeline, Heartbeat(pipeline, exclusive=exclusive, on_fatal=on_fatal)))
        return made[-1]

    yield make
    for pipeline, shown in made:
        pipeline.stop()
        shown.stop()


@pytest.fixture
def start(make: Callable[..., tuple[Pipeline, Heartbeat]]) -> Callable[..., tuple[Pipeline, Heartbeat]]:
    """Make a pipeline that shows itself, and start both."""

    def start(*args: Any, **options: Any) -> tuple[Pipeline, Heartbeat]:
        pipeline, shown = make(*args, **options)
        shown.start()
        pipeline.start()
        return pipeline, shown

    return start


def embed(pipeline: Pipeline, *texts: object) -> None:
    """Submit texts and wait until all are answered."""
    left = threading.Semaphore(0)
    for number, text in enumerate(texts):
        task = {"task_id": f"t{number}", "text": text}
        pipeline.submit(task, Origin("local", f"{number}"), OnOutcome(lambda _: left.release()))
    assert all(left.acquire(timeout=20) for _ in texts)


def wait_for_beats(shown: Heartbeat, count: int) -> None:
    """Wait until the presence has looked after its claim so many more times."""
    for _ in range(count):
        before = shown._renewed_at
        wait_for(lambda before=before: shown._renewed_at > before, 10, "a heartbeat")


class TestClaim:
    def test_a_second_process_is_told_as_soon_as_the_first_renews(self, raw: redis.Redis) -> None:
        first, second = IdentityLock(raw, WORKER), IdentityLock(raw, WORKER)
        first.acquire()
        looks = []

        def pause(seconds: float) -> None:
            looks.append(seconds)
            if len(looks) == 3:
                raw.pexpire(keys.claim(WORKER), 5000)  # as time passes
            if len(looks) == 5:
                assert first.renew()

        with pytest.raises(IdentityTakenError, match="-n or LEGIT_WORKER_ID"):
            second.acquire(pause)
        assert len(looks) == 5, "not before it is certain"

    def test_what_a_killed_process_left_behind_expires(self, raw: redis.Redis) -> None:
        IdentityLock(raw, WORKER, expire_s=0.3).acquire()
        heir = IdentityLock(raw, WORKER)
        heir.acquire()
        assert heir.renew()

    def test_an_orderly_end_makes_way_at_once(self, raw: redis.Redis) -> None:
        first, second = IdentityLock(raw, WORKER), IdentityLock(raw, WORKER)
        first.acquire()
        first.release()
        second.acquire(lambda _: pytest.fail("there was nothing to wait for"))
        first.release()
        assert not first.renew(), "and takes nothing from those who come later"

    def test_names_do_not_stand_in_each_others_way(self, raw: redis.Redis) -> None:
        for name in ("celery@pod-1", "celery@pod-2"):
            IdentityLock(raw, name).acquire(lambda _: pytest.fail("there was nothing to wait for"))

    def test_it_is_taken_anew_after_the_server_forgot(self, raw: redis.Redis) -> None:
        first = IdentityLock(raw, WORKER)
        first.acquire()
        raw.flushall()
        assert first.renew()
        assert not IdentityLock(raw, WORKER).renew()


CONTRACT_FIELDS = {
    *("state", "started_at", "models", "prepared", "embedded", "written", "failed", "dead", "queue_depth"),
    *("in_flight", "batch_size_avg", "items_per_s", "gpu_busy", "vram_used_bytes", "vram_free_bytes", "version"),
}


class TestPublished:
    def test_the_hash_has_the_contracts_fields(
        self, start: Callable[..., tuple[Pipeline, Heartbeat]], client: redis.Redis
    ) -> None:
        pipeline, _ = start()
        embed(pipeline, *(f"text {number}" for number in range(20)), 7)
        shown = wait_for(
            lambda: (found := client.hgetall(HASH)).get("embedded") == "20" and found, 10, "the counts in the hash"
        )
        assert set(shown) >= CONTRACT_FIELDS
        assert (shown["state"], shown["problem"]) == ("running", "")
        assert (shown["device"], shown["device_uuid"]) == ("cpu", "")
        assert shown["device_why"]
        assert (shown["prepared"], shown["written"], shown["failed"], shown["dead"]) == ("20", "21", "1", "0")
        assert (shown["queue_depth"], shown["in_flight"]) == ("0", "0")
        assert json.loads(shown["models"]) == ["null"]
        assert float(shown["batch_size_avg"]) >= 1
        assert json.loads(shown["by_model"])["null"]["items"] == 20
        assert 0 < client.ttl(HASH) <= 30
        assert abs(client.zscore(keys.WORKERS, WORKER) - client.time()[0]) < 5

    def test_it_shows_the_start_and_leaves_nothing_behind(
        self, make: Callable[..., tuple[Pipeline, Heartbeat]], client: redis.Redis
    ) -> None:
        pipeline, shown = make()
        shown.start()
        wait_for(lambda: client.hget(HASH, "state") == "starting", 10, "the state")
        pipeline.start()
        wait_for(lambda: client.hget(HASH, "state") == "running", 10, "the state")
        pipeline.stop_reading()
        wait_for(lambda: client.hget(HASH, "state") == "stopping", 10, "the state")
        pipeline.stop()
        shown.stop()
        assert client.keys("embedding:*") == []

    @pytest.mark.parametrize("on", [True, False])
    def test_the_old_keys_carry_the_one_identity(
        self, start: Callable[..., tuple[Pipeline, Heartbeat]], client: redis.Redis, on: bool
    ) -> None:
        pipeline, _ = start(legacy_keys=on)
        embed(pipeline, "good", 7)
        wait_for(lambda: client.hget(HASH, "failed") == "1", 10, "the counts")
        old = {f"embedding:stats:{role}:{WORKER}" for role in ("prep", "embed")} if on else set()
        assert set(client.keys("embedding:stats:*")) == old
        assert all(0 < client.ttl(key) <= 30 for key in old)

        def totals() -> dict[str, int]:
            shown = [client.hgetall(key) for key in sorted(old)]
            return {
                field: sum(int(each.get(field, 0)) for each in shown) for field in ("prepared", "embedded", "failed")
            }

        wait_for(lambda: totals() == dict.fromkeys(totals(), int(on)), 10, "each to be counted once over both roles")

    def test_workers_that_are_long_gone_are_forgotten(
        self, start: Callable[..., tuple[Pipeline, Heartbeat]], client: redis.Redis
    ) -> None:
        now = client.time()[0]
        client.zadd(keys.WORKERS, {"long-gone": now - 2 * keys.FORGET_S, "lately": now - 60})
        start()
        wait_for(lambda: client.zscore(keys.WORKERS, WORKER), 10, "the heartbeat")
        assert set(client.zrange(keys.WORKERS, 0, -1)) == {"lately", WORKER}

    def test_another_lives_under_the_name(self, start: Callable[..., tuple[Pipeline, Heartbeat]]) -> None:
        start()
        with pytest.raises(ConfigError, match=r"'celery@pod-1': give each worker a name of its own"):
            start()

    def test_a_pipeline_that_is_no_workers_own_only_stays_out_of_sight(
        self,
        start: Callable[..., tuple[Pipeline, Heartbeat]],
        client: redis.Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(presence, "RENEW_S", 0.1)
        start()
        wait_for(lambda: client.hget(HASH, "embedded") == "0", 10, "the first one's hash")
        other, shown = start(exclusive=False)
        published: list[str] = []
        monkeypatch.setattr(shown._publisher, "publish", lambda state, problem: published.append(state))
        wait_for_beats(shown, 3)
        assert not published
        embed(other, "a text")


def test_a_port_in_use_is_one_line(start: Callable[..., tuple[Pipeline, Heartbeat]]) -> None:
    port = free_port()
    pipeline, shown = start(port=port)
    pipeline.add_source(HttpSource(pipeline, shown.state))
    with pytest.raises(ConfigError, match=f"^http.port: cannot listen on 127.0.0.1:{port}: "):
        HttpSource(pipeline, shown.state)


class TestTrouble:
    def test_the_work_goes_on_without_redis_and_it_is_said_once(
        self,
        start: Callable[..., tuple[Pipeline, Heartbeat]],
        own_server: Server,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.WARNING)
        pipeline, shown = start(own_server.url)
        with own_server.client() as client:
            wait_for(lambda: client.hget(HASH, "state") == "running", 10, "the state")
        own_server.kill()
        _, found = wait_for(lambda: (now := shown.state())[0] == "unhealthy" and now, 10, "health to turn red")
        assert any("Redis cannot be reached" in problem for problem in found)
        answered = threading.Event()
        pipeline.submit({"task_id": "t", "text": "x"}, Origin("local", "t"), OnOutcome(lambda _: answered.set()))
        wait_for(lambda: any("cannot be written" in each for each in shown.state()[1]), 10, "the writer's outage")
        own_server.start()
        assert answered.wait(20)
        wait_for(lambda: shown.state()[0] == "running", 20, "health to be green again")
        with own_server.client() as client:
            wait_for(lambda: client.hget(HASH, "state") == "running", 10, "the state")
        said = [record for record in caplog.records if record.getMessage().startswith("telemetry to")]
        assert ["is out of order" in record.getMessage() for record in said] == [True, False]

    def test_a_start_without_redis(self, start: Callable[..., tuple[Pipeline, Heartbeat]], own_server: Server) -> None:
        own_server.stop()
        start(own_server.url)
        own_server.start()
        with own_server.client() as client:
            wait_for(lambda: client.hget(HASH, "state") == "running", 20, "the state")

    def test_one_that_lost_its_name_meanwhile_is_red_and_does_not_overwrite(
        self,
        start: Callable[..., tuple[Pipeline, Heartbeat]],
        client: redis.Redis,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(presence, "RENEW_S", 0.1)
        monkeypatch.setattr(presence, "EXPIRE_S", 0.1)
        fatal: list[BaseException] = []
        _, shown = start(on_fatal=fatal.append)
        wait_for(lambda: client.hget(HASH, "state") == "running", 10, "the state")
        client.set(keys.claim(WORKER), "another's")
        wait_for(lambda: shown.state()[0] == "unhealthy", 10, "health to turn red")
        client.delete(HASH)
        wait_for(lambda: "goes on without showing itself" in caplog.text, 10, "a line in the log")
        wait_for_beats(shown, 3)
        assert not client.exists(HASH)
        assert not fatal, "the first goes on"

    def test_one_that_never_had_its_name_has_to_go(
        self,
        make: Callable[..., tuple[Pipeline, Heartbeat]],
        own_server: Server,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Redis was away at its start, so it could not know."""
        monkeypatch.setattr(presence, "RENEW_S", 0.1)
        monkeypatch.setattr(presence, "EXPIRE_S", 0.1)
        fatal: list[BaseException] = []
        _, shown = make(own_server.url, on_fatal=fatal.append)
        with own_server.client() as client:
            client.set(keys.claim(WORKER), "another's")
        own_server.stop()
        shown.start()
        own_server.start()
        wait_for(lambda: fatal, 20, "the second one to end")
        assert isinstance(fatal[0], IdentityTakenError)

    @pytest.mark.parametrize("part", ["writer", "source", "prep", "other"])
    def test_a_dead_thread_ends_the_process(
        self, start: Callable[..., tuple[Pipeline, Heartbeat]], monkeypatch: pytest.MonkeyPatch, part: str
    ) -> None:
        fatal: list[BaseException] = []
        pipeline, _ = start(on_fatal=fatal.append)
        if part == "writer":
            pipeline.writer.close()
        elif part == "source":
            source = stream_source(pipeline)
            pipeline.add_source(source)
            source.close()
        elif part == "prep":
            pipeline.stage._threads.clear()
        else:
            thread = threading.Thread(target=lambda: None, name="helper")
            thread.start()
            thread.join()
            pipeline.watched.append(thread)
        wait_for(lambda: fatal, 10, "the end")
        assert "has ended" in str(fatal[0])
