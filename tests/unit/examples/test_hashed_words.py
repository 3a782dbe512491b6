from __future__ import annotations

import threading

import numpy as np
import pytest

from examples.hashed_words import HashedWords
from legit_embedding.config import EngineConfig, ModelConfig
from legit_embedding.engine.delivery import Delivery
from legit_embedding.engine.engine import Engine
from legit_embedding.errors import ConfigError, TaskError
from legit_embedding.models.registry import Registry

TEXTS = ("a red bicycle", "a blue bicycle", "the stock market fell", "", "bicycle " * 1000, "\ud800")
LIMIT_S = 20.0


class Item(Delivery):
    __slots__ = ("is_settled", "outcome")

    def __init__(self, prepared):
        self.model, self.prepared = "words", prepared
        self.deadline = self.cancelled = self.outcome = None
        self.is_settled = threading.Event()

    def done(self, vector, queue_s, compute_s):
        self._settle(vector)

    def failed(self, error):
        self._settle(error)

    def given_back(self):
        self._settle("given back")

    def _settle(self, outcome):
        self.outcome = outcome
        self.is_settled.set()


def model(**settings):
    return ModelConfig.model_validate({"kind": "text", "backend": "examples.hashed_words:HashedWords"} | settings)


def embed(config, texts):
    registry = Registry({"words": config})
    engine = Engine({"words": registry["words"]}, EngineConfig(), "cpu", "fp32")
    try:
        engine.start()
        items = [Item(prepared) for prepared in registry.recipe("words").texts(texts)]
        for item in items:
            engine.submit(item)
        assert all(item.is_settled.wait(LIMIT_S) for item in items)
    finally:
        engine.close(timeout=1.0)
    return [item.outcome for item in items]


def test_the_engine_embeds_with_it():
    red, blue, market, blank, long, odd = embed(model(options={"dim": 64}), TEXTS)
    for vector in (red, blue, market, blank, long, odd):
        assert vector.shape == (64,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert red @ blue > 0.5 > red @ market


def test_a_vector_does_not_depend_on_its_batch():
    together, alone = embed(model(), TEXTS), embed(model(max_batch=1), TEXTS)
    assert np.allclose(together, alone, atol=1e-6)


def test_a_long_text_is_cut_and_marked_or_left_to_be_refused():
    (cut,) = HashedWords("words", model(max_tokens=3)).recipe().texts(["a b c d"])
    assert (len(cut.array), cut.cost, cut.truncated) == (3, 3, True)
    (refused,) = HashedWords("words", model(max_tokens=3, truncate=False)).recipe().texts(["a b c d"])
    assert refused.cost > 3


def test_a_hand_off_is_checked():
    recipe = HashedWords("words", model(max_tokens=3)).recipe()
    assert recipe.handoff(np.array([[5, 7, 0], [1, 1, 0]], np.int64)).array.tolist() == [5, 7]
    for array in (np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int64), np.full((2, 2), 1 << 40)):
        with pytest.raises(TaskError, match="handoff_refused"):
            recipe.handoff(array)


def test_a_prompt_it_does_not_have_is_an_invalid_task():
    with pytest.raises(TaskError, match="invalid_task: prompt_name"):
        HashedWords("words", model()).recipe().texts(["a"], ["query"])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kind": "image"}, "models.words.kind"),
        ({"options": {"dim": 0}}, "models.words.options"),
        ({"options": {"dims": 3}}, "models.words.options"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(settings, named):
    with pytest.raises(ConfigError, match=rf"^{named}: "):
        _ = Registry({"words": model(**settings)})["words"]
