"""Tasks that come together, and are handed on together."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from legit_embedding.config import Settings
from legit_embedding.engine.batching.batch import Batch
from legit_embedding.engine.outcomes import Vectors
from legit_embedding.errors import GivenBackError
from legit_embedding.pipeline.caller import OnOutcome
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.pipeline.prepare import MOST_TEXTS_AT_ONCE, TEXTS_AT_ONCE, TEXTS_S
from legit_embedding.wire.result import Origin

if TYPE_CHECKING:
    from legit_embedding.pipeline.caller import Caller

NULL: dict[str, Any] = {"backend": "legit_embedding.models.null:NullModel"}
MODELS = {
    "a": NULL | {"kind": "text", "default": True},
    "b": NULL | {"kind": "text"},
    "pictures": NULL | {"kind": "image"},
}


@pytest.fixture
def pipeline() -> Pipeline:
    """One whose threads are not started, so that tasks wait where they are put."""
    return Pipeline(Settings(models=MODELS), "celery@pod-1", 2)


def counted(pipeline: Pipeline) -> list[int]:
    """Replaces the writer's queue by a list of how many answers are put there at a time."""
    queued: list[int] = []
    writer: Any = pipeline.writer

    def put(*answers: Any) -> bool:
        queued.append(len(answers))
        return False

    writer._backlog.put = put
    return queued


def refused(pipeline: Pipeline) -> list[tuple[str, str]]:
    """The tasks whose errors wait to be written, with the codes."""
    writer: Any = pipeline.writer
    results = [answer.result for answer in writer._backlog.take()]
    return [(result.address.task_id, result.outcome.code) for result in results]


def arrivals(raws: list[dict[str, Any]]) -> tuple[list[tuple[object, Origin, Caller]], list[Future[Any]]]:
    futures: list[Future[Any]] = [Future() for _ in raws]
    tasks: list[tuple[object, Origin, Caller]] = [
        (raw, Origin("stream", f"{number}-0"), OnOutcome(future.set_result))
        for number, (raw, future) in enumerate(zip(raws, futures, strict=True))
    ]
    return tasks, futures


def test_each_waits_for_its_own_model_and_one_that_is_refused_costs_itself_only(pipeline: Pipeline) -> None:
    names = ["b", "a", "nobody", "b", ""]
    tasks, futures = arrivals([{"task_id": f"t{n}", "text": "x", "model": name} for n, name in enumerate(names)])
    pipeline.submit_all(tasks)
    assert [pipeline.stage.waiting(model) for model in ("a", "b")] == [1, 2]
    assert pipeline.in_flight == 5, "the two that are refused have an answer that waits to be written"
    assert refused(pipeline) == [("t2", "unknown_model"), ("t4", "invalid_task")]
    for job in pipeline.stage.take_back():
        job.given_back()
    assert [isinstance(future.result(0), GivenBackError) for future in futures if future.done()] == [True] * 3
    assert pipeline.in_flight == 2


def test_if_prep_takes_none_of_them_each_is_answered(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.stage, "submit", lambda *_: 1 / 0)
    tasks, _ = arrivals([{"task_id": f"t{n}", "text": "x"} for n in range(3)])
    pipeline.submit_all(tasks)
    assert refused(pipeline) == [(f"t{n}", "model_failed") for n in range(3)]


@pytest.mark.parametrize(
    ("each_s", "texts"), [(TEXTS_S, TEXTS_AT_ONCE), (TEXTS_S / 100, 100), (1e-9, MOST_TEXTS_AT_ONCE)]
)
def test_quick_texts_are_prepared_many_at_a_time(pipeline: Pipeline, each_s: float, texts: int) -> None:
    assert pipeline._prep_batch("a") == TEXTS_AT_ONCE, "nothing is known of them yet"
    pipeline._accounts.counts.prepared("a", 10 * each_s, 10)
    assert pipeline._prep_batch("a") == pytest.approx(texts, abs=1)
    assert pipeline._prep_batch("b") == TEXTS_AT_ONCE
    assert pipeline._prep_batch("pictures") == 1


def test_the_answers_of_a_batch_are_queued_a_commit_at_a_time(pipeline: Pipeline) -> None:
    queued, writer = counted(pipeline), pipeline.writer
    with writer.together():
        pipeline.submit_all(arrivals([{"task_id": f"t{n}"} for n in range(300)])[0])
        assert queued == [128, 128], "as many as a commit takes"
    assert queued == [128, 128, 44], "the rest at the end"
    pipeline.submit_all(arrivals([{"task_id": "alone"}])[0])
    assert queued == [128, 128, 44, 1]
    with suppress(RuntimeError), writer.together():
        pipeline.submit_all(arrivals([{"task_id": "before it fails"}])[0])
        raise RuntimeError
    assert queued == [128, 128, 44, 1, 1]


def test_so_are_the_answers_of_a_batch_of_the_device(pipeline: Pipeline) -> None:
    queued = counted(pipeline)
    engine: Any = pipeline.processor.front("a")
    tasks, _ = arrivals([{"task_id": f"t{n}", "text": f"{n}"} for n in range(200)])
    pipeline.submit_all(tasks)
    pipeline.stage._work("a", pipeline.stage.take_back())
    batch = Batch("a", "text", engine._queues["a"].accumulator.close())
    engine._outcomes.embedded(batch, Vectors(np.ones((200, 768), np.float32), 200, 768), 0.0, 0.0)
    assert queued == [128, 72]
