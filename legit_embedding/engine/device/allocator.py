"""How torch keeps the device's memory."""

from __future__ import annotations

import os

_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
_EXPANDABLE = "expandable_segments"


def expand_segments() -> None:
    """Let torch's segments grow in place, so that batches of ever new shapes don't fragment memory.

    To be called before torch is imported, which reads this once. An operator's own word on it wins, and what else they
    have set is kept. Both names are set, because torch before 2.9 knows only the second.
    """
    given = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), "")
    if _EXPANDABLE not in given:
        given = ",".join(filter(None, [given, f"{_EXPANDABLE}:True"]))
    for name in _VARIABLES:
        os.environ[name] = given
