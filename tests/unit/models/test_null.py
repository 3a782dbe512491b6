from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

from legit_embedding.config import ModelConfig
from legit_embedding.models.null import NullModel, expected
from legit_embedding.models.registry import Registry
from tests.faulty_model import STICKY_MESSAGE, FaultyModel


def null(kind: str = "text", **options: Any) -> NullModel:
    return NullModel("n", ModelConfig.model_validate({"kind": kind, "backend": "x", "options": options}))


def faulty(**options: Any) -> FaultyModel:
    config = ModelConfig(kind="text", backend="tests.faulty_model:FaultyModel", options={"dim": 8} | options)
    backend = Registry({"f": config})["f"]
    assert isinstance(backend, FaultyModel)
    return backend


def embed(model: NullModel, *texts: str) -> np.ndarray[Any, Any]:
    arrays = [item.array for item in model.recipe().texts(texts)]
    return model.forward(model.collate(arrays)).numpy()


def test_a_text_has_its_expected_unit_vector() -> None:
    texts = ["", "a", "b", "é", "\ud800", "a" * 10_000]
    vectors = embed(null(dim=16), *texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (6, 16)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(vector, expected(text, 16))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_different_texts_have_different_vectors() -> None:
    vectors = embed(null(dim=4), *(f"text {number}" for number in range(20_000)))
    assert len(np.unique(vectors, axis=0)) == 20_000


def test_an_image_has_the_vector_of_its_bytes() -> None:
    model = null("image", dim=8)
    array = model.recipe().image(b"not even an image", 1).array
    assert np.array_equal(model.forward(model.collate([array]))[0].numpy(), expected(b"not even an image", 8))


def test_the_tokens_of_a_text_are_what_the_options_say() -> None:
    model = null(tokens=32)
    item = model.recipe().texts(["a"])[0]
    assert (item.cost, len(item.array), model.recipe().max_tokens) == (32, 32, 32)
    assert len(model.samples(64)) == 2


def test_a_batch_takes_its_time() -> None:
    model = null(batch_s=0.02, item_s=0.01)
    started = time.monotonic()
    embed(model, "a", "b", "c")
    assert time.monotonic() - started >= 0.05


def test_a_faulty_model_is_right_about_everything_else() -> None:
    vectors = embed(faulty(), "", "good", "longer than the others")
    for text, vector in zip(["", "good", "longer than the others"], vectors, strict=True):
        assert np.array_equal(vector, expected(text, 8))


@pytest.mark.parametrize(
    ("text", "error"), [("a <poison> text", ValueError), ("<oom>", torch.OutOfMemoryError), ("<sticky>", RuntimeError)]
)
def test_a_marker_fails_its_whole_batch(text: str, error: type[Exception]) -> None:
    model = faulty()
    with pytest.raises(error):
        embed(model, "good", text)


def test_a_batch_that_is_too_large_runs_out_of_memory() -> None:
    model = faulty(oom_above=2)
    embed(model, "a", "b")
    with pytest.raises(torch.OutOfMemoryError):
        embed(model, "a", "b", "c")


def test_a_sticky_fault_stays() -> None:
    model = faulty()
    embed(model, "good")
    for text in ("<sticky>", "good"):
        with pytest.raises(RuntimeError, match=STICKY_MESSAGE):
            embed(model, text)


@pytest.mark.parametrize("text", ["<nan>", "<inf>"])
def test_a_vector_that_is_not_finite_is_the_only_one(text: str) -> None:
    good, bad = embed(faulty(), "good", text)
    assert np.array_equal(good, expected("good", 8))
    assert not np.isfinite(bad).all()
