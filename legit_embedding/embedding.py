"""The legacy entrypoints, which embed items that an old prep worker has prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from legit_embedding.entrypoint import entrypoint, names
from legit_embedding.wire.task import HandOff

if TYPE_CHECKING:
    from legit_embedding.task import EmbeddingTask

_names = names()


@entrypoint(_names.embed_image)
def embed_image(self: EmbeddingTask, /, *args: object, **kwargs: object) -> dict[str, Any]:
    """Embed an image tensor from the hand-off directory; returns its receipt."""
    return self.embed(args, kwargs, HandOff, "image")


@entrypoint(_names.embed_text)
def embed_text(self: EmbeddingTask, /, *args: object, **kwargs: object) -> dict[str, Any]:
    """Embed token ids from the hand-off directory; returns its receipt."""
    return self.embed(args, kwargs, HandOff, "text")
