"""Configuration of torch's CUDA memory allocator."""

from __future__ import annotations

import os

_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
_EXPANDABLE = "expandable_segments"


def expand_segments() -> None:
    """Enable torch's expandable segments, so that batches of varying shapes do not fragment memory.

    Must be called before torch is imported, because torch reads the variable only once. An operator's own choice takes
    precedence, and other allocator settings are kept. Both variables are set, because torch before 2.9 knows only the
    second.
    """
    given = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), "")
    if _EXPANDABLE not in given:
        given = ",".join(filter(None, [given, f"{_EXPANDABLE}:True"]))
    for name in _VARIABLES:
        os.environ[name] = given
