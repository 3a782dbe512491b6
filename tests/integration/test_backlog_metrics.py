"""The backlog in the metrics: counted by the heartbeat, whatever becomes of Redis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from legit_embedding.config import Settings
from legit_embedding.pipeline.backlog import Depth
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.telemetry import metrics
from legit_embedding.telemetry.heartbeat import Heartbeat
from legit_embedding.telemetry.metrics import make_registry
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry

    from tests.servers import Server

WORKER, STREAM = "celery@pod-1", "stream:embedding_tasks"
NULL = {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}


@pytest.fixture
def pipeline(own_server: Server) -> Pipeline:
    """A pipeline that is not started."""
    settings = Settings(redis_url=own_server.url, device="cpu", models={"null": NULL}, telemetry={"interval_s": 0.05})
    return Pipeline(settings, WORKER, 1)


@pytest.fixture
def heartbeat(pipeline: Pipeline) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(pipeline, exclusive=True)
    heartbeat.start()
    yield heartbeat
    heartbeat.stop()


@pytest.fixture
def registry(pipeline: Pipeline, heartbeat: Heartbeat) -> CollectorRegistry:
    return make_registry(pipeline, lambda: True)


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"legit_{name}", {"worker": WORKER} | labels)


def test_what_is_counted_is_shown(own_server: Server, pipeline: Pipeline, registry: CollectorRegistry) -> None:
    with own_server.client() as client:
        for _ in range(3):
            client.xadd("embedding_tasks", {"payload": "x"}, id="*")
        client.xadd("embedding_tasks:dead", {"dead_reason": "x"})
    pipeline.backlog.count_queues = lambda: [Depth("queue:embedding", 4)]
    wait_for(lambda: sample(registry, "backlog_items", source="queue:embedding") == 4, 20, "the queue to be counted")
    wait_for(lambda: sample(registry, "backlog_items", source=STREAM) == 3, 20, "the stream to be counted")
    assert sample(registry, "backlog_unread_items", source=STREAM) == 3
    assert (sample(registry, "backlog_oldest_seconds", source=STREAM) or -1) >= 0
    assert sample(registry, "backlog_items_per_second") == 0
    assert sample(registry, "backlog_seconds") == math.inf
    assert sample(registry, "dead_letter_items") == 1


def test_no_scrape_fails_while_redis_is_away_and_old_numbers_go(
    own_server: Server, pipeline: Pipeline, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for(lambda: sample(registry, "backlog_items", source=STREAM) == 0, 20, "the stream to be counted")
    own_server.kill()
    monkeypatch.setattr(metrics, "STALE_S", 0.5)
    wait_for(lambda: sample(registry, "backlog_items", source=STREAM) is None, 20, "the number to be too old")
    assert sample(registry, "healthy") == 1
    own_server.start()
    wait_for(lambda: sample(registry, "backlog_items", source=STREAM) == 0, 30, "the stream to be counted again")


def test_a_broker_that_cannot_be_asked_makes_nobody_ill(
    pipeline: Pipeline, heartbeat: Heartbeat, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def away() -> list[Depth]:
        asked.append(True)
        raise ConnectionError

    pipeline.backlog.count_queues = away
    wait_for(lambda: len(asked) > 3, 20, "the broker to be asked again and again")
    assert not [problem for problem in heartbeat.state()[1] if "Redis" in problem]
    assert not [record for record in caplog.records if record.levelname != "DEBUG"], "the link of telemetry is well"
