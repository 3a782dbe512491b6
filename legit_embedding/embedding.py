"""The legacy entrypoints: finish what an old prep worker has already prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from legit_embedding import runtime
from legit_embedding.messages import HandOff
from legit_embedding.pool.shared import embedding_task

if TYPE_CHECKING:
    from legit_embedding.task import EmbeddingTask

_names = runtime.settings().task_names


@embedding_task(_names.embed_image)
def embed_image(self: EmbeddingTask, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401 - what JSON gives
    """Embed an image tensor from the hand-off directory; returns its receipt."""
    return self.embed(args, kwargs, HandOff, "image")


@embedding_task(_names.embed_text)
def embed_text(self: EmbeddingTask, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
    """Embed token ids from the hand-off directory; returns its receipt."""
    return self.embed(args, kwargs, HandOff, "text")
