"""What makes a worker unwell, with the engine it has; links are in `tests/integration/test_telemetry.py`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from legit_embedding.config import EngineConfig
from legit_embedding.engine.engine import Engine
from legit_embedding.errors import TaskError
from legit_embedding.pipeline.snapshot import faults
from legit_embedding.redis_io.health import Health
from legit_embedding.telemetry.health import FAILURES, problems
from tests.unit.engine.backends import LIMIT_S, Gate, Item, Model
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


class Link:
    def __init__(self) -> None:
        self.now = Health()
        self.results_full = ""

    def health(self) -> Health:
        return self.now


class Works:
    """What `problems` looks at, of a pipeline."""

    def snapshot(self) -> Any:
        return SimpleNamespace(
            progress=self.engine.progress(),
            models=self.engine.stats().models,
            probes={},
            faults=tuple(faults(self.writer, self.outages, self.sources)),  # type: ignore[arg-type]
        )

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.writer = Link()
        self.sources = [Link()]
        self.outages: list[Any] = []


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def works(model: Model) -> Iterator[Works]:
    engine = Engine({model.name: model}, EngineConfig(), "cpu")
    engine.start()
    yield Works(engine)
    engine.close(timeout=1.0)


def run(works: Works, *numbers: int) -> list[Item]:
    items = [Item(number) for number in numbers]
    for item in items:
        works.engine.submit(item)
    assert works.engine.drain(LIMIT_S)
    return items


def settled_in(works: Works, failures: int) -> None:
    """The loop counts a batch a moment after its items are answered."""
    found = lambda: works.engine.stats().models["images"].failed_in_row  # noqa: E731
    wait_for(lambda: found() == failures, LIMIT_S, f"{failures} failures in a row")


def test_a_worker_that_is_well(works: Works) -> None:
    run(works, 1, 2, 3)
    assert problems(works.snapshot()) == []


def test_a_loop_without_progress_on_the_device(works: Works, model: Model) -> None:
    model.on_forward = gate = Gate()
    works.engine.submit(Item(1))
    assert gate.reached.wait(LIMIT_S)
    assert problems(works.snapshot(), 60) == []
    wait_for(lambda: problems(works.snapshot(), 0.05), LIMIT_S, "it to be seen")
    assert problems(works.snapshot(), 0.05) == ["the device loop has made no progress for more than 0.05 s"]
    gate.open()
    assert works.engine.drain(LIMIT_S)
    wait_for(lambda: not problems(works.snapshot(), 5), LIMIT_S, "it to be over")


def test_a_loop_that_has_ended(works: Works) -> None:
    works.engine.close(timeout=LIMIT_S)
    assert problems(works.snapshot()) == ["the device loop has ended"]


def test_a_model_that_fails_at_every_item_until_it_does_not(works: Works, model: Model) -> None:
    def fail(numbers: list[int]) -> None:
        raise ValueError("broken")

    model.on_forward = fail
    for number in range(1, FAILURES + 1):
        settled_in(works, number - 1)
        assert problems(works.snapshot()) == []
        assert run(works, number)[0].code == "model_failed"
    settled_in(works, FAILURES)
    assert problems(works.snapshot()) == [f"the model images has failed {FAILURES} times in a row"]
    model.on_forward = lambda numbers: None
    run(works, 1)
    settled_in(works, 0)
    assert problems(works.snapshot()) == []


def test_one_bad_item_among_good_ones_is_not_the_models_fault(works: Works, model: Model) -> None:
    def fail(numbers: list[int]) -> None:
        if 13 in numbers:
            raise ValueError("thirteen")

    model.on_forward = fail
    works.engine.set_linger("images", 50)  # so that the three are one batch
    for _ in range(FAILURES + 2):
        assert {item.code for item in run(works, 1, 13, 2)} == {None, "poisoned"}
    assert works.engine.stats().models["images"].failed_in_row <= 1
    assert problems(works.snapshot()) == []


def test_vectors_that_are_none_are_failures_too(works: Works, model: Model) -> None:
    model.on_vectors = lambda numbers, vectors: vectors * float("nan")
    for number in range(1, FAILURES + 1):
        assert run(works, number)[0].code == "non_finite"
    settled_in(works, FAILURES)
    assert problems(works.snapshot()) == [f"the model images has failed {FAILURES} times in a row"]


def test_a_result_stream_that_is_full(works: Works) -> None:
    works.writer.results_full = "results_full: the result stream 'r' ..."
    assert problems(works.snapshot()) == ["results_full: the result stream 'r' ..."]


def test_links_that_are_down(works: Works) -> None:
    works.writer.now = Health(ok=False, error="gone", since=1.0)
    works.sources[0].now = Health(ok=False, error="gone too", since=1.0)
    assert problems(works.snapshot()) == ["results cannot be written: gone", "the task stream cannot be read: gone too"]


def test_an_error_of_the_task_is_not_the_models(works: Works) -> None:
    item = Item(1)
    works.engine.cancel(item, "revoked")
    works.engine.submit(item)
    assert works.engine.drain(LIMIT_S)
    assert isinstance(item.outcome, TaskError)
    assert works.engine.stats().models["images"].failed_in_row == 0
