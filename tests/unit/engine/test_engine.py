from __future__ import annotations

import logging
import threading
import time

import pytest
import torch

from legit_embedding.engine.batching.accumulator import ITEM_OVERHEAD_BYTES
from legit_embedding.engine.engine import Engine
from legit_embedding.errors import ConfigError
from tests.unit.engine.backends import LIMIT_S, Gate, Item, Model
from tests.unit.engine.devices import MeteredDevice
from tests.unit.engine.health import healthy
from tests.waiting import wait_for


def submit(engine: Engine, items: list[Item]) -> list[Item]:
    for item in items:
        engine.submit(item)
    return items


def images(*numbers: int) -> list[Item]:
    return [Item(number) for number in numbers]


def finish(engine: Engine) -> None:
    assert engine.drain(LIMIT_S), "the engine did not settle everything"


class TestStart:
    def test_each_model_is_loaded_once_on_the_loops_thread(self, start_engine):
        models = [Model(), Model("text")]
        start_engine(*models)
        for model in models:
            assert model.loads == [(torch.device("cpu"), torch.float32, "engine-loop")]

    def test_the_precision_reaches_the_model(self, start_engine):
        model = Model()
        start_engine(model, precision="bf16")
        assert model.loads[0][1] is torch.bfloat16

    def test_a_model_that_does_not_load_stops_it_with_the_reason(self, make_engine):
        model, good = Model(name="eva"), Model("text")
        model.on_load = lambda: (_ for _ in ()).throw(OSError("no such file: eva.safetensors\nand a second line"))
        engine = make_engine(good, model)
        waiting = submit(engine, [Item(1, "texts", length=3)])
        with pytest.raises(ConfigError) as caught:
            engine.start()
        assert str(caught.value) == "models.eva: the model cannot be loaded: OSError: no such file: eva.safetensors" + (
            " and a second line"
        )
        assert not engine.alive()
        assert waiting[0].outcome == "given back"

    def test_a_models_own_reason_is_kept(self, make_engine):
        model = Model()
        model.on_load = lambda: (_ for _ in ()).throw(ConfigError("models.images.pretrained: no such tag"))
        with pytest.raises(ConfigError, match=r"^models\.images\.pretrained: no such tag$"):
            make_engine(model).start()

    def test_a_model_that_gives_nonsense_stops_it(self, make_engine):
        model = Model()
        model.on_vectors = lambda numbers, vectors: vectors[:, :2]
        with pytest.raises(ConfigError, match=r"models\.images: the model is loaded but does not work: .*shape"):
            make_engine(model).start()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_device_that_is_not_there_stops_it(self):
        with pytest.raises(ConfigError, match=r"device: 'cuda:3' is set, but torch sees 0 CUDA devices"):
            Engine({"images": Model()}, _config(), "cuda:3").start()

    def test_what_was_submitted_before_waits_for_it(self, make_engine):
        engine = make_engine(Model())
        item = submit(engine, images(5))[0]
        assert item.settled == 0
        engine.start()
        finish(engine)
        assert item.is_right


class TestEmbedding:
    def test_every_item_gets_its_own_vector(self, start_engine):
        engine = start_engine(Model(), Model("text"))
        items = images(*range(1, 3000)) + [Item(n, "texts", length=1 + n * 7 % 90) for n in range(1, 3000)]
        submit(engine, items)
        finish(engine)
        assert all(item.is_right for item in items)

    def test_an_item_is_told_how_long_it_waited_and_computed(self, start_engine):
        model, gate = Model(max_batch=1), Gate()
        model.on_forward = gate
        engine = start_engine(model, on="cpu")
        first, second = submit(engine, images(1, 2))
        assert gate.reached.wait(LIMIT_S)
        started = time.monotonic()
        wait_for(lambda: time.monotonic() > started + 0.05, LIMIT_S, "time to pass")
        gate.open()
        finish(engine)
        assert first.times is not None
        assert second.times is not None
        assert first.times[1] >= 0.05
        assert second.times[0] >= 0.05
        assert first.times[0] < first.times[1]

    def test_what_waits_together_goes_together(self, make_engine):
        model = Model()
        engine = make_engine(model)
        submit(engine, images(*range(1, 101)))
        engine.start()
        finish(engine)
        assert model.batches == [list(range(1, 101))]

    def test_max_batch_is_kept_and_can_change(self, make_engine):
        model = Model(max_batch=8)
        engine = make_engine(model)
        submit(engine, images(*range(1, 33)))
        engine.start()
        finish(engine)
        assert [len(batch) for batch in model.batches] == [8, 8, 8, 8]
        engine.set_max_batch("images", 2)
        submit(engine, images(*range(40, 60)))
        finish(engine)
        assert max(len(batch) for batch in model.batches[4:]) == 2

    def test_an_unknown_model_is_an_error(self, start_engine):
        engine = start_engine(Model())
        item = submit(engine, [Item(1, "videos")])[0]
        assert item.code == "unknown_model"
        assert engine.drain(0)

    def test_an_item_beyond_its_deadline_is_not_embedded(self, start_engine):
        model = Model()
        engine = start_engine(model)
        late, early = submit(engine, [Item(1, deadline=time.time() - 1), Item(2, deadline=time.time() + 60)])
        finish(engine)
        assert (late.code, late.settled) == ("expired", 1)
        assert early.is_right
        assert [2] in model.batches

    def test_a_vector_that_is_not_finite_costs_its_item_only(self, make_engine):
        model = Model()
        model.on_vectors = lambda numbers, vectors: vectors.index_fill(0, _positions(numbers, {3, 5}), torch.inf)
        engine = make_engine(model)
        items = submit(engine, images(*range(1, 9)))
        engine.start()
        finish(engine)
        assert [item.number for item in items if item.code == "non_finite"] == [3, 5]
        assert sum(item.is_right for item in items) == 6
        assert len(model.batches) == 1

    def test_a_callback_that_raises_harms_nobody_else(self, start_engine, caplog):
        def explode(item: Item) -> None:
            raise RuntimeError("a bug in a source")

        engine = start_engine(Model())
        items = images(*range(1, 50))
        items[10].on_settled = items[20].on_settled = explode
        submit(engine, items)
        with caplog.at_level(logging.CRITICAL, "legit_embedding"):
            finish(engine)
        assert all(item.is_right for item in items)
        assert engine.alive()


class TestPipelining:
    def test_the_next_batch_is_staged_while_one_computes_and_no_more(self, start_engine):
        model, gate = Model(max_batch=4), Gate()
        model.on_forward = gate
        engine = start_engine(model)
        items = submit(engine, images(*range(1, 21)))
        assert gate.reached.wait(LIMIT_S)
        wait_for(lambda: len(model.collated) >= 2, LIMIT_S, "the second batch to be staged")
        assert len(model.batches) == 1
        wait_for(lambda: engine.stats().on_device == 2, LIMIT_S, "it to be on the device")
        assert engine.stats().models["images"].waiting > 0
        gate.open()
        finish(engine)
        assert all(item.is_right for item in items)

    def test_nothing_waits_while_the_device_idles(self, start_engine):
        model = Model()
        engine = start_engine(model)
        for number in range(1, 20):
            item = submit(engine, images(number))[0]
            finish(engine)
            assert item.is_right
        assert len(model.batches) == 19

    def test_a_batch_that_is_not_full_waits_for_company_while_the_device_is_busy(self, start_engine):
        model, gate = Model(), Gate()
        engine = start_engine(model, device=MeteredDevice(lambda numbers: 30.0 if any(numbers) else 0.001))
        submit(engine, images(1))
        finish(engine)
        wait_for(lambda: engine.stats().on_device == 0, LIMIT_S, "the engine to see that batches take 30 s")
        model.on_forward = gate
        submit(engine, images(2))
        assert gate.reached.wait(LIMIT_S)
        submit(engine, images(3))
        threading.Event().wait(0.05)  # time enough to launch it, if the engine did
        submit(engine, images(4))
        gate.open()
        finish(engine)
        assert model.batches == [[1], [2], [3, 4]]

    def test_linger_waits_for_a_full_batch_and_not_for_ever(self, start_engine):
        model = Model(max_batch=4)
        engine = start_engine(model)
        engine.set_linger("images", 60_000)
        for number in range(1, 5):
            assert len(model.batches) == 0
            submit(engine, images(number))
        finish(engine)
        assert model.batches == [[1, 2, 3, 4]]
        engine.set_linger("images", 30)
        item = submit(engine, images(9))[0]
        finish(engine)
        assert item.is_right
        assert item.times is not None
        assert item.times[0] > 0.025, "a clock is read a moment later than the other"


class TestCancelling:
    def test_a_waiting_item_fails_at_once(self, make_engine):
        engine = make_engine(Model())
        items = submit(engine, images(1, 2, 3))
        engine.cancel(items[1], "revoked")
        assert (items[1].code, items[1].settled) == ("revoked", 1)
        engine.cancel(items[1], "revoked")
        engine.start()
        finish(engine)
        assert [item.settled for item in items] == [1, 1, 1]
        assert items[0].is_right
        assert items[2].is_right

    def test_an_item_that_is_not_prepared_yet_fails_when_it_comes(self, start_engine):
        engine = start_engine(Model("text"))
        item = Item(1, "texts", length=5)
        prepared = item.prepared
        del item.prepared, item.model
        engine.cancel(item, "revoked")
        item.model = "texts"
        engine.cancel(item, "revoked")
        assert item.settled == 0
        item.prepared = prepared
        submit(engine, [item])
        finish(engine)
        assert (item.code, item.settled) == ("revoked", 1)

    def test_an_item_on_the_device_loses_its_vector(self, start_engine):
        model, gate = Model(), Gate()
        model.on_forward = gate
        engine = start_engine(model)
        item = submit(engine, images(1))[0]
        assert gate.reached.wait(LIMIT_S)
        engine.cancel(item, "revoked")
        assert item.settled == 0
        gate.open()
        finish(engine)
        assert (item.code, item.settled) == ("revoked", 1)


class TestRoom:
    def test_a_full_model_has_no_room_until_it_has_been_packed(self, start_engine):
        model, gate, rooms = Model(max_batch=2), Gate(), threading.Event()
        model.on_forward = gate
        engine = start_engine(model, Model("text"), max_in_flight=10, on_room=rooms.set)
        submit(engine, images(*range(1, 31)))
        assert not engine.has_room("images")
        assert engine.has_room("texts")
        assert not engine.has_room("videos")
        assert not rooms.is_set()
        gate.open()
        assert rooms.wait(LIMIT_S)
        assert engine.has_room("images")
        finish(engine)

    def test_a_callback_for_room_that_raises_is_survived(self, start_engine):
        engine = start_engine(Model(max_batch=1), max_in_flight=2, on_room=lambda: 1 / 0)
        items = submit(engine, images(*range(1, 9)))
        finish(engine)
        assert all(item.is_right for item in items)

    def test_waiting_items_are_counted_in_bytes(self, make_engine):
        engine = make_engine(Model())
        submit(engine, images(1, 2))
        assert engine.stats().models["images"].waiting_bytes == 2 * (8 + ITEM_OVERHEAD_BYTES)


class TestEnd:
    def test_closing_gives_back_what_waits_and_answers_what_computes(self, start_engine):
        model, gate = Model(max_batch=1), Gate()
        model.on_forward = gate
        engine = start_engine(model)
        items = submit(engine, images(*range(1, 40)))
        assert gate.reached.wait(LIMIT_S)
        wait_for(lambda: engine.stats().on_device == 2, LIMIT_S, "the second batch to be staged")
        closing = threading.Thread(target=engine.close, kwargs={"timeout": LIMIT_S})
        closing.start()
        wait_for(lambda: items[-1].settled, LIMIT_S, "the waiting items to be given back")
        gate.open()
        closing.join(LIMIT_S)
        assert [item.settled for item in items] == [1] * 39
        assert sum(item.is_right for item in items) == 2
        assert sum(item.was_given_back for item in items) == 37
        assert not engine.alive()

    def test_closing_does_not_wait_for_ever_for_a_stuck_device(self, start_engine):
        model, gate = Model(), Gate()
        model.on_forward = gate
        engine = start_engine(model)
        items = submit(engine, images(1, 2, 3))
        assert gate.reached.wait(LIMIT_S)
        engine.close(timeout=0.1)
        assert all(item.was_given_back for item in items)
        gate.open()  # the vector that comes now is nobody's
        engine.close()
        assert [item.settled for item in items] == [1, 1, 1]

    def test_what_comes_after_the_end_is_given_back(self, start_engine):
        engine = start_engine(Model())
        engine.close()
        item = submit(engine, images(1))[0]
        assert item.outcome == "given back"
        assert engine.drain(0)

    def test_closing_can_finish_what_waits(self, start_engine):
        engine = start_engine(Model())
        items = submit(engine, images(*range(1, 2000)))
        engine.close(give_back=False, timeout=LIMIT_S)
        assert all(item.is_right for item in items)

    def test_an_engine_that_never_started_can_be_closed(self, make_engine):
        engine = make_engine(Model())
        item = submit(engine, images(1))[0]
        engine.close()
        assert item.outcome == "given back"

    def test_submitting_while_it_closes_loses_nothing(self, start_engine):
        engine = start_engine(Model())
        items = images(*range(1, 20_000))
        submitting = threading.Thread(target=submit, args=(engine, items))
        submitting.start()
        wait_for(lambda: items[500].settled, LIMIT_S, "the first items", interval=0.001)
        engine.close(timeout=LIMIT_S)
        submitting.join(LIMIT_S)
        assert all(item.settled == 1 for item in items)
        assert all(item.is_right or item.was_given_back for item in items)


class TestHealth:
    def test_an_idle_engine_is_healthy(self, start_engine):
        engine = start_engine(Model())
        assert engine.alive()
        assert healthy(engine, 0.2)

    def test_a_device_that_does_not_answer_is_not(self, start_engine):
        model, gate = Model(), Gate()
        model.on_forward = gate
        engine = start_engine(model)
        submit(engine, images(1))
        wait_for(lambda: not healthy(engine, 0.2), LIMIT_S, "the stall to show")
        assert engine.alive()
        gate.open()
        wait_for(lambda: healthy(engine, 0.2), LIMIT_S, "the engine to recover")

    def test_a_loop_that_is_stuck_is_not(self, start_engine):
        model, gate = Model(), Gate()
        collate = model.collate
        model.collate = lambda arrays: (gate([]), collate(arrays))[1]  # type: ignore[method-assign]
        gate.open()
        engine = start_engine(model)
        stuck = Gate()
        model.collate = lambda arrays: (stuck([]), collate(arrays))[1]  # type: ignore[method-assign]
        item = submit(engine, images(1))[0]
        wait_for(lambda: not healthy(engine, 0.2), LIMIT_S, "the stall to show")
        stuck.open()
        finish(engine)
        assert item.is_right

    def test_an_engine_that_has_not_started_is_not(self, make_engine):
        engine = make_engine(Model())
        assert not engine.alive()
        assert not healthy(engine, 60)


class TestStats:
    def test_they_count_what_ran(self, make_engine):
        model = Model(max_batch=10)
        engine = make_engine(model, Model("text"))
        submit(engine, images(*range(1, 31)))
        submit(engine, [Item(1, deadline=1.0)])
        engine.start()
        finish(engine)
        wait_for(lambda: engine.stats().on_device == 0, LIMIT_S, "the last batch to be counted")
        stats = engine.stats()
        of_images = stats.models["images"]
        assert (of_images.batches, of_images.items, of_images.batch_size_avg) == (3, 30, 10)
        assert (of_images.largest_batch, of_images.failures, of_images.waiting) == (10, 1, 0)
        assert of_images.share == 1.0
        assert stats.models["texts"].share == 0.0
        assert stats.open_items == stats.open_batches == 0
        assert 0 <= stats.busy <= 1
        shown = {name: str(model) for name, model in stats.models.items()}
        assert shown == {
            "images": "3 batches of 10.0, 100% of the device",
            "texts": "0 batches of 0.0, 0% of the device",
        }

    def test_padding_is_counted(self, make_engine):
        engine = make_engine(Model("text"))
        submit(engine, [Item(n, "texts", length=length) for n, length in enumerate([48, 50, 47, 50, 49], start=1)])
        engine.start()
        finish(engine)
        wait_for(lambda: engine.stats().on_device == 0, LIMIT_S, "the batch to be counted")
        assert engine.stats().models["texts"].padding_waste == pytest.approx(1 - 244 / 250)

    def test_a_plan_is_kept_for_each_model(self, start_engine):
        engine = start_engine(Model(), Model("text"))
        assert set(engine.plans()) == {"images", "texts"}
        assert engine.full_batch("images") > 50


def _positions(numbers: list[int], bad: set[int]) -> torch.Tensor:
    return torch.tensor([at for at, number in enumerate(numbers) if number in bad], dtype=torch.long)


def _config():
    from legit_embedding.config import EngineConfig

    return EngineConfig()
