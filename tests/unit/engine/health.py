"""Whether an engine gets on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from legit_embedding.engine.engine import Engine


def healthy(engine: Engine, stall_s: float) -> bool:
    """Whether the loop runs, and has been without progress for no longer than this."""
    progress = engine.progress()
    return progress.alive and progress.stalled_s <= stall_s
