"""The legacy entrypoints: finish what an old prep worker has already prepared."""

from __future__ import annotations

from typing import Any

from legit_embedding import runtime
from legit_embedding.celery import app
from legit_embedding.messages import HandOff
from legit_embedding.task import EmbeddingTask

_names = runtime.settings().task_names


@app.task(bind=True, base=EmbeddingTask, name=_names.embed_image)
def embed_image(self: EmbeddingTask, handoff: object) -> dict[str, Any]:
    """Embed an image tensor from the hand-off directory; returns its receipt."""
    return self.embed(handoff, HandOff, "image")


@app.task(bind=True, base=EmbeddingTask, name=_names.embed_text)
def embed_text(self: EmbeddingTask, handoff: object) -> dict[str, Any]:
    """Embed token ids from the hand-off directory; returns its receipt."""
    return self.embed(handoff, HandOff, "text")
