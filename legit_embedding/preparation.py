"""The entrypoints that producers call: fetch or take, prepare, embed, write."""

from __future__ import annotations

from typing import Any

from legit_embedding import runtime
from legit_embedding.celery import app
from legit_embedding.messages import TaskObject
from legit_embedding.task import EmbeddingTask

_names = runtime.settings().task_names


@app.task(bind=True, base=EmbeddingTask, name=_names.prepare_image)
def prepare_image(self: EmbeddingTask, task: object) -> dict[str, Any]:
    """Embed one image task object; returns its receipt."""
    return self.embed(task, TaskObject, "image")


@app.task(bind=True, base=EmbeddingTask, name=_names.prepare_text)
def prepare_text(self: EmbeddingTask, task: object) -> dict[str, Any]:
    """Embed one text task object; returns its receipt."""
    return self.embed(task, TaskObject, "text")


@app.task(bind=True, base=EmbeddingTask, name=_names.prepare_batch)
def prepare_batch(self: EmbeddingTask, tasks: object) -> list[dict[str, Any]]:
    """Embed a list of task objects, images and texts mixed; returns one receipt a task, in order."""
    if not isinstance(tasks, list):
        # Answered like any other task that does not fit.
        return [self.embed(tasks, TaskObject, "text")]
    return self.embed_all(tasks)
