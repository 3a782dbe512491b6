"""The entrypoints that producers call, which fetch or accept content, prepare it, embed it and write the result.

Each accepts its task object as its one argument, as ``task=``, or as keyword fields (CONTRACT section 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from legit_embedding.entrypoint import entrypoint, names
from legit_embedding.wire.task import TaskObject

if TYPE_CHECKING:
    from legit_embedding.task import EmbeddingTask

_names = names()


@entrypoint(_names.prepare_image)
def prepare_image(self: EmbeddingTask, /, *args: object, **kwargs: object) -> dict[str, Any]:
    """Embed one image task object; returns its receipt."""
    return self.embed(args, kwargs, TaskObject, "image")


@entrypoint(_names.prepare_text)
def prepare_text(self: EmbeddingTask, /, *args: object, **kwargs: object) -> dict[str, Any]:
    """Embed one text task object; returns its receipt."""
    return self.embed(args, kwargs, TaskObject, "text")


@entrypoint(_names.prepare_batch, batch=True)
def prepare_batch(self: EmbeddingTask, /, *args: object, **kwargs: object) -> list[dict[str, Any]]:
    """Embed a list of task objects, images and texts mixed; returns one receipt per task, in order."""
    return self.embed_all(args, kwargs)
