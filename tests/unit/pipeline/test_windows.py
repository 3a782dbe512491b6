"""A long text on its way through a real engine, as many items as it has windows."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from legit_embedding.config import EngineConfig, ModelConfig
from legit_embedding.encoding import decode_embedding
from legit_embedding.engine.engine import Engine
from legit_embedding.errors import GivenBackError, TaskError
from legit_embedding.models.backend import Prepared
from legit_embedding.models.null import expected
from legit_embedding.models.registry import Registry
from legit_embedding.pipeline.caller import OnOutcome
from legit_embedding.pipeline.job import Job
from legit_embedding.pipeline.windows import Windows
from legit_embedding.wire.result import Origin
from legit_embedding.wire.task import TaskObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from legit_embedding.wire.result import Result

TEXTS = ("one", "two", "three")


class Taken:
    """Makes jobs, and keeps how each ended."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.ended: list[Any] = []
        self.over = threading.Event()

    def job(self, *windows: str, **settings: Any) -> Job:
        made = Job(Origin("local", "l"), OnOutcome(self._settled), self, self)  # type: ignore[arg-type]
        made.take(TaskObject(task_id="t", text="".join(windows)), **settings)
        made.kind = "text"
        made.serve(self.registry.resolve(None, "text"))
        items = self.registry.recipe("null").texts(windows)
        made.prepared = Prepared(items[0].array, items[0].cost, windows=tuple(items) if len(items) > 1 else ())
        return made

    def put(self, _: Job, result: Result) -> None:
        """As a sink."""
        self._settled(result.outcome)

    def closed(self, job: Job) -> None:
        """As a book."""

    def _settled(self, outcome: Any) -> None:
        self.ended.append(outcome)
        self.over.set()


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[Windows, Taken, Engine]]]:
    engines: list[Engine] = []

    def start(backend: str = "legit_embedding.models.null:NullModel", **settings: Any) -> tuple[Windows, Taken, Engine]:
        fields = {"kind": "text", "backend": backend, "options": {"dim": 8}} | settings
        registry = Registry({"null": ModelConfig.model_validate(fields)})
        engines.append(Engine(registry.backends(), EngineConfig(), "cpu"))
        return Windows(engines[-1]), Taken(registry), engines[-1]

    yield start
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("normalize", [True, False])
def test_a_job_ends_once_with_the_mean_of_its_windows(start: Any, normalize: bool) -> None:
    windows, taken, engine = start(normalize=normalize)
    engine.start()
    windows.submit(taken.job(*TEXTS))
    assert taken.over.wait(20)
    assert engine.drain(20)
    (outcome,) = taken.ended
    mean = np.mean([expected(text, 8) for text in TEXTS], axis=0)
    wanted = mean / np.linalg.norm(mean) if normalize else mean
    assert np.allclose(decode_embedding(outcome.embedding), wanted, atol=1e-6)
    assert outcome.windows == 3


def test_a_text_without_windows_goes_as_it_is(start: Any) -> None:
    windows, taken, engine = start()
    engine.start()
    windows.submit(taken.job("one"))
    assert taken.over.wait(20)
    assert np.allclose(decode_embedding(taken.ended[0].embedding), expected("one", 8), atol=1e-6)
    assert taken.ended[0].windows == 0


def test_a_window_that_fails_fails_the_job_once(start: Any) -> None:
    windows, taken, engine = start("tests.faulty_model:FaultyModel")
    engine.start()
    windows.submit(taken.job("one", "<nan>", "<nan>"))
    assert taken.over.wait(20)
    assert engine.drain(20)
    (outcome,) = taken.ended
    assert isinstance(outcome, TaskError)
    assert outcome.code == "non_finite"


def test_a_cancelled_job_is_answered_once(start: Any) -> None:
    windows, taken, engine = start()
    job = taken.job(*TEXTS)
    windows.submit(job)
    engine.cancel(job, "revoked")
    engine.start()
    assert taken.over.wait(20)
    assert engine.drain(20)
    assert [outcome.code for outcome in taken.ended] == ["revoked"]
    assert engine.stats().models["null"].items == 0, "and costs the device nothing"


def test_a_job_whose_deadline_passes_while_it_waits_expires_once(start: Any) -> None:
    windows, taken, engine = start()
    windows.submit(taken.job(*TEXTS, expires=1.0))
    engine.start()
    assert taken.over.wait(20)
    assert engine.drain(20)
    assert [outcome.code for outcome in taken.ended] == ["expired"]


def test_a_job_that_the_engine_does_not_reach_is_given_back_once(start: Any) -> None:
    windows, taken, engine = start()
    windows.submit(taken.job(*TEXTS))
    engine.close()
    assert [type(outcome) for outcome in taken.ended] == [GivenBackError]
