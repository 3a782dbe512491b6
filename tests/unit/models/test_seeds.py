"""``random:SEED`` means the same weights in every process."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import torch

from legit_embedding.config import ModelConfig
from legit_embedding.models.open_clip import OpenClipModel
from legit_embedding.models.transformers import TransformersModel
from tests.tiny_models import TINY_CLIP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

CPU = torch.device("cpu")


def digest(module: torch.nn.Module | None) -> str:
    assert module is not None
    state = module.state_dict()
    return hashlib.sha256(b"".join(state[key].numpy().tobytes() for key in sorted(state))).hexdigest()


def image_digest(name: str, seed: int) -> str:
    made = OpenClipModel("m", ModelConfig(kind="image", backend="open_clip", name=name, pretrained=f"random:{seed}"))
    made.load(CPU, torch.float32)
    return digest(made._visual)


def text_digest(name: str, seed: int) -> str:
    made = TransformersModel(
        "m", ModelConfig(kind="text", backend="transformers", name=name, pretrained=f"random:{seed}")
    )
    made.load(CPU, torch.float32)
    return digest(made._model)


def test_a_seed_gives_the_same_weights_in_another_process(
    encoder_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = str(encoder_folder("bert"))
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    here = [image_digest(TINY_CLIP, 5), text_digest(folder, 5)]
    assert torch.equal(torch.random.get_rng_state(), state)
    others = [image_digest(TINY_CLIP, 6), text_digest(folder, 6)]
    assert len({*here, *others}) == 4
    code = f"""
from pathlib import Path
from tests.tiny_models import add_tiny_clips
from tests.unit.models.test_seeds import image_digest, text_digest
add_tiny_clips(Path({str(tmp_path_factory.mktemp("open_clip"))!r}))
print(image_digest({TINY_CLIP!r}, 5), text_digest({folder!r}, 5))
"""
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert there.stdout.split() == here
