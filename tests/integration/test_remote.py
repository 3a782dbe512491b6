"""A pipeline with remote models: whatever its remote does, each task is answered once and no vector is wrong."""

from __future__ import annotations

import base64
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import redis
from PIL import Image

from legit_embedding.config import Settings
from legit_embedding.control.batching import report
from legit_embedding.encoding import decode_embedding
from legit_embedding.models.null import expected
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.pool.stream_step import stream_source
from legit_embedding.redis_io.connection import Backoff
from legit_embedding.remote import breaker, lane
from legit_embedding.telemetry.health import degradations, problems
from legit_embedding.telemetry.metrics import WorkerCollector
from tests.images import encoded
from tests.remotes import DIM, Remote, Reply, vector
from tests.unit.remote.test_processor import BROKEN
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.remotes import Request

    Open = Callable[..., Pipeline]

LIMIT_S = 120.0
NULL = {"kind": "text", "backend": "legit_embedding.models.null:NullModel", "options": {"dim": DIM}}


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def open_pipeline(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open a pipeline that reads the task stream; models by name."""
    monkeypatch.setattr(breaker.Breaker.__init__, "__defaults__", (Backoff(0.05, 0.3),))
    monkeypatch.setattr(lane, "PAUSES", Backoff(0.02, 0.2))
    made: list[Pipeline] = []

    def opened(models: dict[str, Any], **settings: Any) -> Pipeline:
        given = {"redis_url": redis_url, "device": "cpu", "models": models, "streams": {"block_ms": 100}} | settings
        pipeline = Pipeline(Settings(**given), "celery@pod-1", 1)
        made.append(pipeline)
        pipeline.start()
        pipeline.add_source(stream_source(pipeline))
        return pipeline

    yield opened
    for pipeline in made:
        pipeline.stop()


def far(remote: Remote, **settings: Any) -> dict[str, Any]:
    return {"kind": "text", "backend": remote.backend, "base_url": remote.url} | settings


def add(client: redis.Redis, tasks: dict[str, str], **fields: str) -> None:
    with client.pipeline(transaction=False) as batch:
        for task_id, text in tasks.items():
            batch.xadd("embedding_tasks", {"task_id": task_id, "text": text} | fields)
        batch.execute()


def answers(client: redis.Redis, count: int) -> dict[str, dict[str, str]]:
    """Wait until the task stream is empty; see that each task was answered, and once."""
    written = lambda: client.xlen("embedding_results") >= count  # noqa: E731
    wait_for(written, LIMIT_S, f"{count} answers")
    entries = [fields for _, fields in client.xrange("embedding_results")]
    found = {fields["task_id"]: fields for fields in entries}
    assert len(entries) == len(found) == count
    assert client.xlen("embedding_tasks") == 0
    return found


def is_right(answer: dict[str, str], text: str) -> bool:
    return answer["status"] == "ok" and np.allclose(decode_embedding(answer["embedding"]), vector(text), atol=1e-6)


@pytest.mark.parametrize("backend", ["http", "openai", "ollama"])
def test_a_remote_that_does_everything_wrong(client: redis.Redis, open_pipeline: Open, backend: str) -> None:
    """Every way of failing in turn, on two requests of three, and a crash in the middle."""
    ways = itertools.cycle(BROKEN.values())
    numbers = itertools.count()

    def misbehave(request: Request) -> Reply | None:
        if "poison" in request.items:
            return Reply(status=400)
        return None if request.is_probe or not next(numbers) % 3 else next(ways)(backend)(request)

    with Remote(backend) as remote:
        remote.misbehave = misbehave
        open_pipeline({"far": far(remote)})
        tasks = {f"task-{number}": f"text {number}" for number in range(1000)}
        add(client, tasks | {"bad": "poison"})
        wait_for(lambda: client.xlen("embedding_results") > 100, LIMIT_S, "the first answers")
        remote.kill()
        before = client.xlen("embedding_results")
        remote.start()
        found = answers(client, 1001)
        assert before < 1001
    # Poisoned if it was found by halving a batch; it may also have been alone in its own.
    assert found["bad"]["error"] in {"poisoned", "model_failed"}
    assert found["bad"]["detail"].startswith("the remote model refuses this item: 400")
    wrong = {text: found[task_id] for task_id, text in tasks.items() if not is_right(found[task_id], text)}
    assert wrong == {}


def test_models_of_both_sorts(client: redis.Redis, open_pipeline: Open) -> None:
    with Remote() as remote:
        pipeline = open_pipeline({"near": NULL | {"default": True}, "far": far(remote)})
        wait_for(lambda: remote.requests, LIMIT_S, "a probe")
        remote.kill()
        add(client, {f"far-{number}": "x" for number in range(50)}, model="far")
        wait_for(lambda: degradations(pipeline.snapshot()), LIMIT_S, "the remote to be away")
        add(client, {f"near-{number}": "x" for number in range(50)})
        wait_for(lambda: client.xlen("embedding_results") == 50, LIMIT_S, "the answers of the other model")
        assert {fields["model"] for _, fields in client.xrange("embedding_results")} == {"near"}

        snapshot = pipeline.snapshot()
        assert problems(snapshot) == []
        (sentence,) = degradations(snapshot)
        assert sentence.startswith(f"the remote model far at {remote.url}/embed is away: no connection")
        shown = report(pipeline)["models"]
        assert (shown["far"]["breaker"], shown["far"]["requests"], shown["near"]["items"]) == ("open", 0, 50)
        assert shown["far"]["errors"]["connect"] > 0
        samples = {
            (sample.name, sample.labels.get("stage")): sample.value
            for metric in WorkerCollector(pipeline, lambda: True).collect()
            for sample in metric.samples
            if sample.labels.get("model") == "far"
        }
        assert samples["legit_remote_breaker_open", None] == 1
        assert samples["legit_queue_items", "remote"] + len(pipeline.processor.remote._in_flight) > 0  # type: ignore[attr-defined]
        assert ("legit_device_seconds_total", None) not in samples

        remote.start()
        found = answers(client, 100)
        assert all(is_right(answer, "x") for answer in found.values())
        assert degradations(pipeline.snapshot()) == []
        assert report(pipeline)["models"]["far"]["breaker"] == "closed"


def test_what_is_held_is_bounded_while_the_remote_is_away(client: redis.Redis, open_pipeline: Open) -> None:
    with Remote() as remote:
        remote.kill()
        pipeline = open_pipeline({"far": far(remote)}, engine={"max_in_flight": 100})
        tasks = {f"task-{number}": f"text {number}" for number in range(500)}
        add(client, tasks)
        wait_for(lambda: pipeline.in_flight >= 100, LIMIT_S, "the worker to be full")
        seen = len(pipeline.processor.remote._lanes["far"]._errors)  # type: ignore[attr-defined]
        errors = lambda: report(pipeline)["models"]["far"]["errors"].get("connect", 0)  # noqa: E731
        wait_for(lambda: errors() > seen + 3, LIMIT_S, "some probes")
        assert pipeline.in_flight <= 100 + 64  # one read of the stream
        remote.start()
        found = answers(client, 500)
    assert all(is_right(found[task_id], text) for task_id, text in tasks.items())


def test_a_stop_leaves_what_waits_to_others(client: redis.Redis, open_pipeline: Open) -> None:
    with Remote() as remote:
        remote.kill()
        pipeline = open_pipeline({"far": far(remote)})
        add(client, {f"task-{number}": "x" for number in range(100)})
        wait_for(lambda: pipeline.in_flight == 100, LIMIT_S, "the worker to have them")
        pipeline.stop()
        assert client.xlen("embedding_results") == 0
        remote.start()
        open_pipeline({"far": far(remote)}, streams={"block_ms": 100, "claim_idle_ms": 300})
        answers(client, 100)


def test_images_and_shorter_vectors(client: redis.Redis, open_pipeline: Open) -> None:
    with Remote() as remote:
        open_pipeline({"far": far(remote, kind=None, kinds=["image", "text"], matryoshka=[4])})
        file = encoded(Image.new("RGB", (20, 10)), "PNG")
        client.xadd("embedding_tasks", {"task_id": "image", "image_b64": base64.b64encode(file).decode()})
        client.xadd("embedding_tasks", {"task_id": "bad", "image_b64": base64.b64encode(b"no image").decode()})
        client.xadd("embedding_tasks", {"payload": '{"task_id": "short", "text": "x", "dimensions": 4}'})
        found = answers(client, 3)
    url = f"data:image/png;base64,{base64.b64encode(file).decode()}"
    assert is_right(found["image"], url)
    assert (found["image"]["kind"], found["image"]["dim"], found["bad"]["error"]) == ("image", str(DIM), "undecodable")
    short = expected("x", DIM)[:4]
    assert np.allclose(decode_embedding(found["short"]["embedding"]), short / np.linalg.norm(short), atol=1e-6)
