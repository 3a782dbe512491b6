"""Models that fail, and recover, while nobody asks them for anything."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from legit_embedding.config import Settings
from legit_embedding.pipeline import probe
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.telemetry.health import report, state_of
from tests.remotes import Remote, Reply
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from legit_embedding.pipeline.snapshot import Snapshot

    Open = Callable[..., Pipeline]

LIMIT_S = 30
PROBE_S = 0.05
NULL = "legit_embedding.models.null:NullModel"
FAULTY = "tests.faulty_model:FaultyModel"


@pytest.fixture
def open_pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    monkeypatch.setattr(probe, "TURN_S", 0.02)
    made: list[Pipeline] = []

    def opened(models: dict[str, Any], probe_s: float = PROBE_S) -> Pipeline:
        settings = Settings(device="cpu", models=models, engine={"probe_s": probe_s})
        pipeline = Pipeline(settings, "pod", 1, redis=False)
        made.append(pipeline)
        pipeline.start()
        return pipeline

    yield opened
    for pipeline in made:
        pipeline.stop()


def state(pipeline: Pipeline) -> tuple[str, list[str]]:
    return state_of(pipeline.snapshot())


def shown(pipeline: Pipeline) -> dict[str, Any]:
    status, body = report(pipeline, *state(pipeline))
    return body["models"] | {"status": int(status)}


def test_idle_models_are_probed_and_no_task_is_counted(open_pipeline: Open) -> None:
    pipeline = open_pipeline(
        {"both": {"kinds": ["image", "text"], "backend": NULL}, "words": {"kind": "text", "backend": NULL}},
        probe_s=1000,
    )
    assert shown(pipeline)["both"] == {
        "kind": "image+text",
        "dimension": 768,
        "loaded": True,
        "last_ok_s": None,
        "waiting": 0,
    }
    pipeline._prober._probe_s = PROBE_S

    def all_again(more: int) -> Callable[[], bool]:
        goals = {name: model.batches + more for name, model in pipeline.snapshot().models.items()}
        return lambda: all(model.batches >= goals[name] for name, model in pipeline.snapshot().models.items())

    wait_for(all_again(3), LIMIT_S, "three probes of each of the three towers")
    found = shown(pipeline)
    assert 0 <= found["both"]["last_ok_s"] < LIMIT_S
    assert found["status"] == 200
    snapshot: Snapshot = pipeline.snapshot()
    assert (snapshot.embedded, snapshot.failed, snapshot.in_flight, snapshot.prepared) == (0, 0, 0, 0)


def test_a_model_that_breaks_while_idle_is_seen_and_seen_to_recover(
    open_pipeline: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    faulty = {"kind": "text", "backend": FAULTY, "options": {"fails_while": str(broken)}}
    pipeline = open_pipeline({"faulty": faulty, "fine": {"kind": "image", "backend": NULL}})
    broken.touch()
    wait_for(lambda: state(pipeline)[0] == "unhealthy", LIMIT_S, "the failure to be seen")
    assert state(pipeline)[1] == [
        "the model faulty has failed a probe: the model failed on this item: ValueError: a poisoned item"
    ]
    assert shown(pipeline)["status"] == 503
    first = pipeline._prober._probes["faulty"]
    wait_for(lambda: pipeline._prober._probes["faulty"] is not first, LIMIT_S, "another probe")
    assert [each.levelname for each in caplog.records if "failed a probe" in each.message] == ["ERROR"]
    broken.unlink()
    wait_for(lambda: state(pipeline) == ("running", []), LIMIT_S, "the recovery to be seen")


def test_a_remote_that_hangs_while_idle_is_degraded(open_pipeline: Open) -> None:
    with Remote() as remote:
        far = {"kind": "text", "backend": "http", "base_url": remote.url, "health_timeout_s": 0.2}
        pipeline = open_pipeline({"far": far, "near": {"kind": "image", "backend": NULL}})
        wait_for(lambda: len(remote.requests) > 2, LIMIT_S, "probes")
        remote.misbehave = lambda _: Reply(gate=threading.Event())
        wait_for(lambda: state(pipeline)[0] == "degraded", LIMIT_S, "it to be degraded")
        (sentence,) = state(pipeline)[1]
        assert sentence.startswith(f"the remote model far at {remote.url}/embed is slow: no answer to a probe for more")
        found = shown(pipeline)
        assert (found["status"], found["far"]["breaker"], found["far"]["loaded"]) == (200, "closed", True)


def test_without_a_time_nothing_is_probed(open_pipeline: Open) -> None:
    pipeline = open_pipeline({"words": {"kind": "text", "backend": NULL}}, probe_s=0)
    assert not pipeline._prober._thread.is_alive()
    assert shown(pipeline)["words"]["last_ok_s"] is None


def test_a_busy_model_is_not_probed(open_pipeline: Open) -> None:
    pipeline = open_pipeline({"words": {"kind": "text", "backend": NULL}}, probe_s=1000)
    model = pipeline.snapshot().models["words"]
    assert not pipeline._prober._is_due("words", model)
    pipeline._prober._probe_s = 0.0001
    assert pipeline._prober._is_due("words", model)
    assert not pipeline._prober._is_due("words", replace(model, waiting=1))
    assert not pipeline._prober._is_due("words", replace(model, loaded=False))


def test_a_failure_stands_until_the_next_probe_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    again = probe.Probe("words", None, "a reason")
    assert again.fault(again.began_at) == "a reason"
    again.ended("a reason")
    assert caplog.messages == []
    again.ended("another")
    assert caplog.messages == ["The model words has failed a probe: another"]
    again.ended("")
    assert again.fault(again.began_at) == ""


def test_a_failed_probe_is_forgotten_once_other_items_are_embedded(open_pipeline: Open) -> None:
    """A model that is busy is not probed again, so nothing else would turn it well."""
    pipeline = open_pipeline({"words": {"kind": "text", "backend": NULL}}, probe_s=1000)
    prober, model = pipeline._prober, pipeline.snapshot().models["words"]
    failed = prober._probes["words"] = probe.Probe("words", None)
    failed.ended("a reason")
    assert state(pipeline)[1] == ["the model words has failed a probe: a reason"]
    assert failed.ended_at is not None
    assert not prober._is_due("words", replace(model, last_ok_at=failed.ended_at + 1))
    assert state(pipeline) == ("running", [])
