from __future__ import annotations

import numpy as np
import pytest
import torch

from legit_embedding.config import EngineConfig
from legit_embedding.engine import compiled
from legit_embedding.engine.engine import Engine
from tests.unit.engine.backends import LIMIT_S, Item, Model, vector


class Lattice(Model):
    """Computes on tensors alone, as a real model does."""

    def collate(self, arrays):
        return {"pixels": torch.tensor([[int(array[0])] for array in arrays])}

    def forward(self, inputs):
        numbers = inputs["pixels"][:, 0]
        return torch.stack([numbers, numbers % 7, numbers % 11, torch.ones_like(numbers)], dim=1).float()


@pytest.fixture
def eagerly(monkeypatch: pytest.MonkeyPatch):
    """Traces as `torch.compile` does and leaves out the compiler; notes the shapes of what is traced."""
    shapes: list[tuple[int, ...]] = []

    def backend(graph, examples):
        shapes.append(tuple(examples[-1].shape))
        return graph

    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda forward, **options: original(forward, backend=backend, **options))
    yield shapes
    torch._dynamo.reset()


def test_the_sizes_lead_from_one_to_a_full_batch():
    assert compiled.sizes(1) == [1]
    assert compiled.sizes(6) == [1, 2, 6]
    assert compiled.sizes(64) == [1, 4, 16, 64]
    assert compiled.sizes(100) == [1, 2, 7, 25, 100]


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17])
def test_every_batch_gets_its_own_vectors(eagerly, n: int):
    model = Lattice()
    fallen_back: list[int] = []

    def any_shape(inputs):
        fallen_back.append(len(inputs["pixels"]))
        return model.forward(inputs)

    shapes = compiled.FixedShapes(model, any_shape, [1, 4, 16])
    vectors = shapes({"pixels": torch.arange(1, n + 1)[:, None]}).numpy()
    assert np.array_equal(vectors, np.stack([vector(number) for number in range(1, n + 1)]))
    assert fallen_back == ([17] if n == 17 else [])
    assert [shape[0] for shape in eagerly] == ([] if n == 17 else [{1: 1, 2: 4, 3: 4, 16: 16}[n]])


def test_an_engine_that_compiles_is_warm_when_it_starts(eagerly):
    model = Lattice(max_batch=8)
    engine = Engine({"images": model}, EngineConfig(compile=True), "cpu")
    try:
        engine.start()
        warmed = list(eagerly)
        assert [shape[0] for shape in warmed[-3:]] == [1, 2, 8]
        items = [Item(number) for number in range(1, 100)]
        for item in items:
            engine.submit(item)
        assert engine.drain(LIMIT_S)
        assert all(item.is_right for item in items)
        assert eagerly == warmed, "nothing was compiled while items waited"
    finally:
        engine.close(timeout=1.0)


def test_texts_are_compiled_for_any_shape(eagerly):
    class Texts(Lattice):
        def collate(self, arrays):
            return {"input_ids": super().collate(arrays)["pixels"]}

        def forward(self, inputs):
            return super().forward({"pixels": inputs["input_ids"]})

    engine = Engine({"texts": Texts(kind="text", name="texts")}, EngineConfig(compile=True), "cpu")
    try:
        engine.start()
        items = [Item(number, "texts", length=5) for number in range(1, 100)]
        for item in items:
            engine.submit(item)
        assert engine.drain(LIMIT_S)
        assert all(item.is_right for item in items)
    finally:
        engine.close(timeout=1.0)
