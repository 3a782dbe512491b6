"""The entrypoints that producers call: fetch or take, prepare, embed, write.

Each takes one task object: as its only argument, as ``task=``, or as keywords that are the object's fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from legit_embedding import runtime
from legit_embedding.messages import TaskObject
from legit_embedding.pool.shared import embedding_task

if TYPE_CHECKING:
    from legit_embedding.task import EmbeddingTask

_names = runtime.settings().task_names


@embedding_task(_names.prepare_image)
def prepare_image(self: EmbeddingTask, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401 - what JSON gives
    """Embed one image task object; returns its receipt."""
    return self.embed(args, kwargs, TaskObject, "image")


@embedding_task(_names.prepare_text)
def prepare_text(self: EmbeddingTask, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
    """Embed one text task object; returns its receipt."""
    return self.embed(args, kwargs, TaskObject, "text")


@embedding_task(_names.prepare_batch)
def prepare_batch(self: EmbeddingTask, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Embed a list of task objects, images and texts mixed; returns one receipt per task, in order."""
    return self.embed_all(args, kwargs)
