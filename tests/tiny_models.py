"""Architectures of a few thousand weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import open_clip

if TYPE_CHECKING:
    from pathlib import Path

TINY_CLIP = "legit-tiny"
TINY_CLIP_WIDE = "legit-tiny-wide"
_VISION = {"layers": 2, "width": 48, "head_width": 16, "patch_size": 8, "patch_dropout": 0.5}
_TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}


def add_tiny_clips(folder: Path) -> None:
    """Make two architectures, a square one and another, known to open_clip in this process."""
    for name, size in ((TINY_CLIP, 32), (TINY_CLIP_WIDE, [32, 48])):
        config = {"embed_dim": 24, "vision_cfg": _VISION | {"image_size": size}, "text_cfg": _TEXT}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
