"""No forward pass reads from the device: the loop's thread would wait there until the device has caught up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from legit_embedding.config import ModelConfig
from legit_embedding.engine.sizing.host_reads import HostReads
from legit_embedding.models.null import NullModel
from legit_embedding.models.open_clip import OpenClipModel
from legit_embedding.models.transformers import TransformersModel
from tests.tiny_models import TINY_CLIP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from legit_embedding.models.backend import Backend

CPU = torch.device("cpu")
PADDED, EVEN = (3, 70, 12), (8, 8)
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "roberta": {"max_position_embeddings": 80},
    "mpnet": {"max_position_embeddings": 80},
    "modernbert": {"local_attention": 16, "global_attn_every_n_layers": 2, "pad_token_id": 0},
    "qwen3": {"num_key_value_heads": 1, "head_dim": 16},
    "t5": {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2},
}


def config(kind: str, name: str, **settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({"kind": kind, "backend": "-", "name": name, "pretrained": "random:0"} | settings)


def reads(backend: Backend, inputs: Mapping[str, torch.Tensor]) -> list[str]:
    with torch.inference_mode(), HostReads() as found:
        backend.forward(inputs)
    return found.found


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("lengths", [PADDED, EVEN], ids=["padded", "even"])
@pytest.mark.parametrize("model_type", ENCODERS)
def test_texts(encoder_folder: Callable[..., Path], model_type: str, lengths: tuple[int, ...], pooling: str) -> None:
    folder = encoder_folder(model_type, **ENCODERS[model_type])
    backend = TransformersModel("m", config("text", str(folder), pooling=pooling, max_tokens=70))
    backend.load(CPU, torch.float32)
    assert reads(backend, backend.collate([np.arange(5, 5 + length) for length in lengths])) == []


@pytest.mark.parametrize("model_type", ["bert", "modernbert", "qwen3"])
def test_a_padded_text_still_gets_its_own_vector(encoder_folder: Callable[..., Path], model_type: str) -> None:
    folder = encoder_folder(model_type, **ENCODERS[model_type])
    backend = TransformersModel("m", config("text", str(folder)))
    backend.load(CPU, torch.float32)
    arrays = [np.arange(5, 5 + length) for length in PADDED]
    with torch.inference_mode():
        together = backend.forward(backend.collate(arrays))
        alone = torch.cat([backend.forward(backend.collate([array])) for array in arrays])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images(dtype: type) -> None:
    backend = OpenClipModel("m", config("image", TINY_CLIP))
    backend.load(CPU, torch.float32)
    assert reads(backend, backend.collate([np.ones((3, 32, 32), dtype)] * 3)) == []


@pytest.mark.parametrize("kind", ["image", "text"])
def test_nothing(kind: str) -> None:
    backend = NullModel("m", ModelConfig.model_validate({"kind": kind, "backend": "-"}))
    assert reads(backend, backend.collate([np.ones(1, np.int64)] * 3)) == []


@pytest.mark.parametrize(
    "read",
    [
        lambda x: bool(x.all()),
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        torch.nonzero,
        lambda x: torch.equal(x, x),
        torch.unique,
    ],
)
def test_every_kind_of_read_is_seen(read: Callable[[torch.Tensor], object]) -> None:
    with HostReads() as found:
        read(torch.ones(3))
    assert found.found
