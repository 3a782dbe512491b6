from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from torch import nn

from legit_embedding.config import ModelConfig
from legit_embedding.engine.sizing import compiled
from legit_embedding.engine.sizing.compiled import Blocks
from legit_embedding.engine.sizing.profile import Compilation
from legit_embedding.errors import ConfigError
from legit_embedding.models.open_clip import OpenClipModel
from tests.tiny_models import TINY_CLIP, add_tiny_clips
from tests.unit.engine.backends import LIMIT_S, Item, Model
from tests.unit.engine.devices import MeteredDevice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from legit_embedding.engine.engine import Engine

LAYERS = 12


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.one


class Layered(Model):
    """Computes on tensors alone, through layers, as a real model does."""

    def __init__(self, *args: Any, **config: Any) -> None:
        super().__init__(*args, **config)
        self.head = nn.Linear(1, 1)
        self.body = nn.ModuleDict({"blocks": nn.Sequential(*(Layer() for _ in range(LAYERS)))})
        self.body.requires_grad_(False)
        self.on_compiled: Callable[[torch.Tensor], torch.Tensor] = lambda vectors: vectors

    def collate(self, arrays):
        return {"numbers": torch.tensor([[int(array[0])] for array in arrays])}

    def forward(self, inputs):
        numbers = self.body["blocks"](inputs["numbers"].float())[:, 0]
        vectors = torch.stack([numbers, numbers % 7, numbers % 11, torch.ones_like(numbers)], dim=1)
        return self.on_compiled(vectors) if self.is_compiled else vectors

    @property
    def is_compiled(self) -> bool:
        return all(layer._compiled_call_impl is not None for layer in self.body["blocks"])


class Flat(Layered):
    """Repeats nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.body["blocks"] = nn.Sequential(Layer())


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch):
    """Traces as `torch.compile` does and leaves out the compiler; notes each graph that is made."""
    graphs: list[object] = []

    def backend(graph, examples, **options):
        graphs.append(graph)
        return graph

    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda forward, **options: original(forward, backend=backend, **options))
    torch._dynamo.reset()
    yield graphs
    torch._dynamo.reset()


class TestBlocks:
    def test_the_longest_row_of_layers_of_one_class_is_found(self):
        model = Layered()
        model.body["others"] = nn.ModuleList([nn.Linear(1, 1), nn.ReLU()] * LAYERS)
        found = Blocks.of(model)
        assert found is not None
        assert list(found.modules) == list(model.body["blocks"])
        assert Blocks.of(Model()) is None

    def test_those_of_real_models(self, tmp_path: Path):
        add_tiny_clips(tmp_path)
        settings = {"kind": "image", "backend": "open_clip", "name": TINY_CLIP, "pretrained": "random:0"}
        backend = OpenClipModel("m", ModelConfig.model_validate(settings))
        backend.load(torch.device("cpu"), torch.float32)
        found = Blocks.of(backend)
        assert found is not None
        assert len(found.modules) == 2

        eva = timm.create_model("eva02_tiny_patch14_224")  # EVA02-L is 24 of the same
        found = Blocks.of(SimpleNamespace(held=eva))
        assert found is not None
        assert list(found.modules) == list(eva.blocks)

    def test_they_share_their_graphs(self, traced, start_engine: Callable[..., Engine]):
        engine = start_engine(Layered(), compile=True)
        # For the first number of images, for any, and for one alone; not for each of the layers.
        assert 2 <= len(traced) <= 3
        assert engine.plans()["images"].compiled is Compilation.BY_BLOCKS

    def test_they_can_run_as_they_are_written(self, traced):
        model = Layered()
        blocks = Blocks.of(model)
        assert blocks is not None
        blocks.compile()
        assert model.is_compiled
        with blocks.eagerly():
            assert not model.is_compiled
        assert model.is_compiled
        blocks.restore()
        assert not model.is_compiled


def test_without_a_compiler_the_start_says_so(monkeypatch: pytest.MonkeyPatch, start_engine):
    def compile_nothing(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", compile_nothing)
    with pytest.raises(
        ConfigError, match=r"^engine\.compile: the model .* cannot be compiled: .*no compiler\. .*g\+\+"
    ):
        start_engine(Layered("text"), compile=True)


@pytest.mark.parametrize(
    ("model", "how"),
    [(Layered(), "by blocks"), (Layered("text"), "whole"), (Flat(), "whole")],
    ids=["image", "text", "without layers"],
)
def test_an_engine_that_compiles_is_warm_when_it_starts(traced, start_engine, model: Layered, how: str):
    engine = start_engine(model, compile=True)
    assert engine.plans()[model.name].compiled == how
    assert engine.plans()[model.name].start_s.keys() == {"load", "compile", "measure"}
    warmed = len(traced)
    assert warmed
    items = [Item(number, model.name) for number in range(1, 100)]
    for item in items:
        engine.submit(item)
    assert engine.drain(LIMIT_S)
    assert all(item.is_right for item in items)
    assert len(traced) == warmed, "nothing was compiled while items waited"


class PretendGpu(MeteredDevice):
    """A GPU on which a compiled model is so many times as quick."""

    def __init__(self, model: Layered, gain: float) -> None:
        super().__init__(lambda numbers: (0.001 + 0.001 * len(numbers)) / (gain if model.is_compiled else 1.0))
        self.torch_device = torch.device("cuda")


class TestAuto:
    def test_what_is_quicker_is_kept_and_measured_again(self, traced, start_engine, caplog):
        caplog.set_level("INFO")
        model = Layered()
        plan = start_engine(model, device=PretendGpu(model, gain=1.6)).plans()["images"]
        assert model.is_compiled
        assert plan.compiled is Compilation.BY_BLOCKS
        assert plan.speed == pytest.approx(1600, rel=0.05)
        assert plan.start_s.keys() == {"load", "measure", "compile"}
        assert "compiled 1.60 times the speed, cosine 1.00000" in caplog.text
        assert "compile 0." in next(line for line in caplog.messages if line.startswith("Model images is ready"))

    def test_what_is_not_quicker_runs_as_it_is_written(self, traced, start_engine):
        model = Layered()
        plan = start_engine(model, device=PretendGpu(model, gain=1.01)).plans()["images"]
        assert not model.is_compiled
        assert plan.compiled is Compilation.NO
        assert plan.speed == pytest.approx(1000, rel=0.05)

    def test_vectors_that_would_change_are_not_worth_it(self, traced, start_engine):
        model = Layered()
        model_forward = model.forward
        model.forward = lambda inputs: (
            model_forward(inputs).roll(1, dims=1) if model.is_compiled else model_forward(inputs)
        )
        start_engine(model, device=PretendGpu(model, gain=2.0))
        assert not model.is_compiled

    def test_without_a_compiler_it_works_all_the_same(self, start_engine, monkeypatch, caplog):
        def refuse(*args: object, **options: object) -> None:
            raise RuntimeError("Failed to find C compiler")

        monkeypatch.setattr(torch, "compile", refuse)
        model = Layered()
        engine = start_engine(model, device=PretendGpu(model, gain=2.0))
        assert engine.plans()["images"].compiled is Compilation.NO
        assert "compiling it failed: RuntimeError('Failed to find C compiler')" in caplog.text

    @pytest.mark.parametrize("kind", ["text", "image"])
    def test_texts_and_cpus_are_left_as_they_are(self, traced, start_engine, kind: str):
        model = Layered(kind)
        start_engine(model, device=PretendGpu(model, gain=2.0) if kind == "text" else None)
        assert not model.is_compiled
        assert not traced


class TestCache:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch):
        for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_FX_GRAPH_CACHE"):
            monkeypatch.setenv(name, "before")

    def test_graphs_are_kept_in_the_folder(self, start_engine, tmp_path: Path):
        start_engine(Model(), compile_cache=tmp_path / "graphs")
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "graphs")
        assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "graphs" / "triton")
        assert (tmp_path / "graphs").is_dir()

    @pytest.mark.parametrize("settings", [{}, {"compile": False, "compile_cache": "graphs"}])
    def test_without_it_torch_decides(self, start_engine, settings: dict[str, Any]):
        start_engine(Model(), **settings)
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "before"

    def test_a_folder_that_cannot_be_made_is_refused(self, tmp_path: Path):
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match=r"engine\.compile_cache: .* cannot be made"):
            compiled.keep_graphs(tmp_path / "file" / "graphs")
