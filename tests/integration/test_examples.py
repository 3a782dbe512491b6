"""The source example against a real pipeline and a real server."""

from __future__ import annotations

import json

import pytest
import redis

from examples.lines_source import LinesSource, LinesStep
from legit_embedding import process
from legit_embedding.config import Settings
from legit_embedding.pipeline.pipeline import Pipeline
from tests.waiting import wait_for

LIMIT_S = 20.0
NULL = {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def make_pipeline(redis_url):
    made = []

    def make():
        pipeline = Pipeline(Settings(redis_url=redis_url, device="cpu", models={"null": NULL}), "celery@pod-1", 1)
        made.append(pipeline)
        pipeline.start()
        return pipeline

    yield make
    for pipeline in made:
        pipeline.stop()


def lines(*texts):
    return "".join(json.dumps({"task_id": text, "text": text}) + "\n" for text in texts)


def answers(client, count):
    wait_for(lambda: client.xlen("embedding_results") >= count, LIMIT_S, f"{count} answers")
    return {fields["task_id"]: fields for _, fields in client.xrange("embedding_results")}


def numbers(path):
    return sorted(map(int, path.read_text().split())) if path.exists() else []


def test_each_line_is_answered_and_then_noted(make_pipeline, client, tmp_path):
    path, done = tmp_path / "tasks.jsonl", tmp_path / "tasks.jsonl.done"
    source = LinesSource(path, pipeline := make_pipeline())
    pipeline.add_source(source)
    wait_for(lambda: not source.health().ok, LIMIT_S, "the missing file to show in the health")

    path.write_text(lines("a", "b") + "not JSON\n" + '{"task_id": "unfinished"')
    found = answers(client, 3)
    assert {name: fields["status"] for name, fields in found.items()} == {
        "a": "ok",
        "b": "ok",
        "tasks.jsonl:3": "error",
    }
    assert found["tasks.jsonl:3"]["error"] == "invalid_task"
    wait_for(lambda: numbers(done) == [1, 2, 3], LIMIT_S, "the notes")
    assert source.health().ok

    with path.open("a") as file:
        file.write(', "text": "now it ends"}\n')
    assert answers(client, 4)["unfinished"]["status"] == "ok"
    wait_for(lambda: source.stats().held == 0, LIMIT_S, "the last note")
    assert pipeline.in_flight == 0


def test_a_restart_brings_only_what_is_not_done(make_pipeline, client, tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_text(lines("a", "b", "c"))
    (tmp_path / "tasks.jsonl.done").write_text("1\n3\n")
    pipeline = make_pipeline()
    pipeline.add_source(LinesSource(path, pipeline))
    assert set(answers(client, 1)) == {"b"}
    wait_for(lambda: numbers(tmp_path / "tasks.jsonl.done") == [1, 2, 3], LIMIT_S, "the note")


def test_what_is_given_back_is_not_noted(make_pipeline, tmp_path):
    path, done = tmp_path / "tasks.jsonl", tmp_path / "tasks.jsonl.done"
    path.write_text(lines("a"))
    pipeline = make_pipeline()
    pipeline.stage.close(1.0)  # nothing is prepared any more
    source = LinesSource(path, pipeline)
    source.start()
    wait_for(lambda: source.stats().held == 1, LIMIT_S, "the line")
    pipeline.stop()
    assert (source.stats().held, source.stats().waiting) == (0, 1)
    source.close(1.0)
    assert not source.alive()
    assert numbers(done) == []


def test_the_step_adds_the_source_to_the_workers_pipeline(make_pipeline, client, tmp_path, monkeypatch):
    path = tmp_path / "tasks.jsonl"
    path.write_text(lines("a"))
    pipeline = make_pipeline()
    monkeypatch.setenv("LINES_FILE", str(path))
    monkeypatch.setattr(process, "is_running", lambda: True)
    monkeypatch.setattr(process, "current", lambda: pipeline)
    LinesStep(None).start(None)
    assert set(answers(client, 1)) == {"a"}
    LinesStep(None).close(None)
    assert pipeline.phase == "stopping"
