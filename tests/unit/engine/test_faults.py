"""One bad item costs itself only, a broken device costs nothing but the process, and nothing ever hangs."""

from __future__ import annotations

import logging
import random
import threading
import time
import weakref
from typing import TYPE_CHECKING

import pytest
import torch

from legit_embedding.engine import recovery
from legit_embedding.engine.device.cpu import CpuDevice
from legit_embedding.engine.recovery import RETRY_DELAYS_S, DeviceLostError
from tests.unit.engine.backends import LIMIT_S, Gate, Item, Model
from tests.unit.engine.devices import BrokenDevice
from tests.unit.engine.health import healthy
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.engine.engine import Engine


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "legit_embedding")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries after a hundredth of the time."""
    monkeypatch.setattr(recovery, "RETRY_DELAYS_S", tuple(delay / 100 for delay in RETRY_DELAYS_S))


def poison(*bad: int) -> Callable[[list[int]], None]:
    def check(numbers: list[int]) -> None:
        if set(bad) & set(numbers):
            raise ValueError("this input is poison")

    return check


def bombs(*bad: int, limit: int = 10**9) -> Callable[[list[int]], None]:
    def check(numbers: list[int]) -> None:
        if set(bad) & set(numbers) or len(numbers) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB.")

    return check


def together(make_engine: Callable[..., Engine], model: Model, items: list[Item], **options: object) -> Engine:
    """Let these items be one batch, if they fit."""
    engine = make_engine(model, **options)
    for item in items:
        engine.submit(item)
    engine.start()
    assert engine.drain(LIMIT_S), "the engine did not settle everything"
    return engine


def images(count: int) -> list[Item]:
    return [Item(number) for number in range(1, count + 1)]


class TestPoison:
    def test_the_culprit_is_found_and_its_neighbours_succeed(self, make_engine):
        model, items = Model(), images(64)
        model.on_forward = poison(37)
        together(make_engine, model, items)
        bad = items[36]
        assert (bad.code, bad.settled) == ("poisoned", 1)
        assert "ValueError: this input is poison" in bad.outcome.detail
        assert all(item.is_right for item in items if item is not bad)
        assert sum(37 in batch for batch in model.batches) == 1 + 6  # log2 of 64 more attempts

    def test_several_culprits(self, make_engine):
        model, items = Model(), images(100)
        model.on_forward = poison(1, 2, 50, 100)
        together(make_engine, model, items)
        assert [item.number for item in items if item.code == "poisoned"] == [1, 2, 50, 100]
        assert sum(item.is_right for item in items) == 96

    def test_an_item_alone_from_the_start_failed_by_the_model(self, make_engine):
        model, items = Model(), images(1)
        model.on_forward = poison(1)
        together(make_engine, model, items)
        assert (items[0].code, len(model.batches)) == ("model_failed", 1)

    @pytest.mark.parametrize("stage", ["collate", "on_vectors"])
    def test_it_does_not_matter_where_a_batch_fails(self, make_engine, stage):
        model, items = Model(), images(16)
        if stage == "collate":
            collate = model.collate
            model.collate = lambda arrays: (poison(7)([int(a[0]) for a in arrays]), collate(arrays))[1]
        else:
            model.on_vectors = lambda numbers, vectors: vectors[1:] if 7 in numbers else vectors
        together(make_engine, model, items)
        assert [item.number for item in items if item.code == "poisoned"] == [7]
        assert sum(item.is_right for item in items) == 15

    def test_even_an_exit_from_a_model_is_only_a_failure(self, make_engine):
        model, items = Model(), images(4)

        def leave(numbers: list[int]) -> None:
            if 2 in numbers:
                raise SystemExit

        model.on_forward = leave
        engine = together(make_engine, model, items)
        assert items[1].code == "poisoned"
        assert engine.alive()


class TestMemory:
    def test_a_batch_that_is_too_large_is_halved_and_all_succeed(self, make_engine):
        model, items = Model(), images(400)
        model.on_forward = bombs(limit=100)
        engine = together(make_engine, model, items)
        assert all(item.is_right for item in items)
        stats = engine.stats().models["images"]
        assert stats.ooms > 0
        assert stats.ceiling == 200  # half of the batch that failed

    def test_the_ceiling_comes_down_until_batches_fit(self, make_engine):
        model, items = Model(), images(3000)
        model.on_forward = bombs(limit=30)
        together(make_engine, model, items)
        assert all(item.is_right for item in items)
        assert max(len(batch) for batch in model.batches[-5:]) <= 60

    def test_a_memory_error_of_the_cpu_counts_too(self, make_engine):
        model, items = Model(), images(64)

        def exhaust(numbers: list[int]) -> None:
            if len(numbers) > 20:
                raise MemoryError

        model.on_forward = exhaust
        together(make_engine, model, items)
        assert all(item.is_right for item in items)

    @pytest.mark.usefixtures("hasty")
    def test_an_item_that_never_fits_is_tried_again_and_then_answered(self, make_engine):
        model, items = Model(), images(32)
        model.on_forward = bombs(9)
        engine = together(make_engine, model, items)
        assert (items[8].code, items[8].settled) == ("model_failed", 1)
        assert "out of memory" in items[8].outcome.detail
        assert model.batches.count([9]) == 1 + len(RETRY_DELAYS_S)
        assert sum(item.is_right for item in items) == 31
        planned = engine.plans()["images"].largest
        assert engine.stats().models["images"].ceiling == planned, "the item was to blame, not the size of the batch"

    @pytest.mark.usefixtures("hasty")
    def test_memory_that_comes_back_saves_the_item(self, make_engine):
        model, items = Model(), images(1)
        tries: list[int] = []

        def recover(numbers: list[int]) -> None:
            tries.append(1)
            if len(tries) < 3:
                raise torch.OutOfMemoryError("CUDA out of memory")

        model.on_forward = recover
        together(make_engine, model, items)
        assert items[0].is_right

    def test_others_go_on_while_an_item_waits_for_memory(self, start_engine):
        model = Model()
        model.on_forward = bombs(1)
        engine = start_engine(model)
        engine.submit(bad := Item(1))
        wait_for(lambda: [1] in model.batches, LIMIT_S, "the first attempt")
        good = [Item(n) for n in range(2, 200)]
        for item in good:
            engine.submit(item)
        wait_for(lambda: all(item.settled for item in good), LIMIT_S, "the others")
        assert bad.settled == 0
        engine.close()
        assert bad.was_given_back

    def test_the_failed_batch_does_not_keep_its_tensors(self, make_engine):
        """An exception's traceback holds the frames, and they hold the tensors that did not fit."""
        released: list[bool] = []

        class Watching(CpuDevice):
            def release_cache(self) -> None:
                released.append(any(tensor() is not None for tensor in alive))

        alive: list[weakref.ref[torch.Tensor]] = []

        def hold(numbers: list[int]) -> None:
            if len(numbers) > 8:
                large = torch.zeros(10)
                alive.append(weakref.ref(large))
                raise torch.OutOfMemoryError("CUDA out of memory")

        model, items = Model(), images(16)
        model.on_forward = hold
        together(make_engine, model, items, device=Watching())
        assert all(item.is_right for item in items)
        assert released
        assert not any(released)


class TestBrokenDevice:
    def test_nothing_is_answered_and_everything_is_given_back(self, start_engine):
        device, causes, over = BrokenDevice(), [], threading.Event()
        model, gate = Model(max_batch=4), Gate()

        def on_fatal(cause: BaseException) -> None:
            causes.append((cause, [item.settled for item in items]))
            over.set()

        def assertion(numbers: list[int]) -> None:
            gate(numbers)
            if 6 in numbers:
                device.broken = True
                raise RuntimeError("CUDA error: device-side assert triggered")
            if device.broken:
                raise RuntimeError("CUDA error: device-side assert triggered")

        model.on_forward = assertion
        items = images(40)
        engine = start_engine(model, Model("text"), device=device, on_fatal=on_fatal)
        for item in items:
            engine.submit(item)
        gate.open()
        assert over.wait(LIMIT_S)

        (cause, settled_by_then), *more = causes
        assert not more
        assert isinstance(cause, DeviceLostError)
        assert "device-side assert" in str(cause)
        assert settled_by_then == [1] * 40
        assert [item.number for item in items if item.is_right] == [1, 2, 3, 4]
        assert sum(item.was_given_back for item in items) == 36
        wait_for(lambda: not engine.alive(), LIMIT_S, "the loop to end")
        assert not healthy(engine, 60)
        late = Item(99)
        engine.submit(late)
        assert late.was_given_back

    def test_an_error_that_only_looks_like_it_costs_one_item(self, make_engine):
        model, items, causes = Model(), images(8), []

        def misconfigured(numbers: list[int]) -> None:
            if 3 in numbers:
                raise RuntimeError("CUDA error: invalid configuration argument")

        model.on_forward = misconfigured
        engine = together(make_engine, model, items, device=BrokenDevice(), on_fatal=causes.append)
        assert items[2].code == "poisoned"
        assert sum(item.is_right for item in items) == 7
        assert engine.alive()
        assert causes == []


class TestDeadThreads:
    @pytest.mark.parametrize("where", ["loop", "completions"])
    def test_a_bug_in_a_thread_is_fatal_and_nobody_hangs(self, start_engine, monkeypatch, where):
        causes, over = [], threading.Event()
        engine = start_engine(Model(), on_fatal=lambda cause: (causes.append(cause), over.set()))

        def bug(*args: object, **options: object) -> None:
            raise AssertionError("a bug in the engine")

        buggy = {"loop": "model_queue.ModelQueue.next_batch", "completions": "in_flight.InFlightBatches.release"}[where]
        monkeypatch.setattr(f"legit_embedding.engine.{buggy}", bug)
        items = images(50)
        for item in items:
            engine.submit(item)
        assert over.wait(LIMIT_S)
        assert "a bug in the engine" in str(causes[0])
        wait_for(lambda: not engine.alive(), LIMIT_S, "the loop to end")
        assert all(item.was_given_back or (where == "completions" and item.is_right) for item in items)

    def test_a_fatal_callback_may_close_the_engine(self, start_engine, monkeypatch):
        over = threading.Event()

        def stop(cause: BaseException) -> None:
            engine.close(timeout=1.0)
            over.set()

        engine = start_engine(Model(), on_fatal=stop)
        monkeypatch.setattr("legit_embedding.engine.model_queue.ModelQueue.next_batch", lambda self, now: 1 / 0)
        engine.submit(item := Item(1))
        assert over.wait(LIMIT_S)
        assert item.was_given_back


@pytest.mark.usefixtures("hasty")
def test_ten_thousand_items_with_poison_bombs_and_stalls(start_engine):
    chance = random.Random(11)
    numbers = range(1, 10_001)
    bad = set(chance.sample(numbers, 100))
    large = set(chance.sample(sorted(set(numbers) - bad), 10))
    strange = set(chance.sample(sorted(set(numbers) - bad - large), 10))

    def trouble(batch: list[int]) -> None:
        if chance.random() < 0.02:
            time.sleep(0.02)  # a stall
        poison(*bad)(batch)
        bombs(*large)(batch)

    def spoil(batch: list[int], vectors: torch.Tensor) -> torch.Tensor:
        at = [n for n, number in enumerate(batch) if number in strange]
        return vectors.index_fill(0, torch.tensor(at, dtype=torch.long), torch.nan)

    models = [Model(max_batch=64), Model("text", max_batch=64)]
    for model in models:
        model.on_forward, model.on_vectors = trouble, spoil
    engine = start_engine(*models)
    items = [Item(n, "texts", length=chance.randint(1, 64)) if n % 2 else Item(n, "images") for n in numbers]
    for item in items:
        engine.submit(item)
    assert engine.drain(60), "something hangs"

    assert all(item.settled == 1 for item in items)
    assert all(item.is_right for item in items if item.number not in bad | large | strange)
    codes = {code: {i.number for i in items if i.code == code} for code in ("poisoned", "model_failed", "non_finite")}
    # Alone in its batch from the start, poison is the model's failure.
    assert codes["poisoned"] | codes["model_failed"] == bad | large
    assert large <= codes["model_failed"]
    assert codes["non_finite"] == strange
    assert engine.alive()
    assert engine.stats().open_batches == 0


def test_nothing_is_kept_of_an_item_that_is_answered(start_engine):
    engine = start_engine(Model())
    items: weakref.WeakSet[Item] = weakref.WeakSet()
    for start in range(0, 20_000, 1000):
        for number in range(1, 1001):
            item = Item(start + number)
            items.add(item)
            engine.submit(item)
        del item
        assert engine.drain(LIMIT_S)
    wait_for(lambda: not items, LIMIT_S, "the last batch to be let go")
