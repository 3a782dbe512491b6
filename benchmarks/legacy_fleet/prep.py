"""A prep worker: `celery -A benchmarks.legacy_fleet.prep worker --pool=solo -Q legacy_prep -n prep1@%h`."""

from __future__ import annotations

import base64
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from benchmarks.legacy_fleet import models, results
from benchmarks.legacy_fleet.app import connect, make_app, settings
from benchmarks.legacy_fleet.queues import embed_queue
from benchmarks.legacy_fleet.telemetry import Stats

if TYPE_CHECKING:
    from legit_embedding.config import Kind

TASK_FIELDS = ("task_id", "reply_to", "app", "metadata")

app = make_app()
client = connect()
stats = Stats(client, "prep")
loaded = {name: models.make(config) for name, config in settings.models.items()}


@app.task(name=settings.task_names.prepare_image)
def prepare_image(task: dict[str, Any]) -> None:
    """Fetch and transform one image."""
    prepare(task, "image")


@app.task(name=settings.task_names.prepare_text)
def prepare_text(task: dict[str, Any]) -> None:
    """Tokenise one text."""
    prepare(task, "text")


@app.task(name=settings.task_names.prepare_batch)
def prepare_batch(tasks: list[dict[str, Any]]) -> None:
    """Each of them in turn."""
    for task in tasks:
        prepare(task, "text" if task.get("text") is not None else "image")


def prepare(task: dict[str, Any], kind: Kind) -> None:
    """Leave the tensor in the hand-off directory and send it on."""
    model = task.get("model") or settings.default_model(kind)
    try:
        array = loaded[model].prepare(content(task))
    except Exception as error:  # noqa: BLE001 - the old fleet answers whatever went wrong with an image
        results.write(client, task, stats.identity, results.bad("undecodable", str(error)))
        stats.count("failed")
        return
    handoff = {name: task[name] for name in TASK_FIELDS if task.get(name) is not None}
    handoff |= {"model": model, "path": str(hand_off(array))}
    names = settings.task_names
    app.send_task(names.embed_image if kind == "image" else names.embed_text, (handoff,), queue=embed_queue(model))
    stats.count("prepared")


def content(task: dict[str, Any]) -> bytes:
    """The items to embed."""
    if task.get("text") is not None:
        return task["text"].encode()
    if task.get("image_b64") is not None:
        return base64.b64decode(task["image_b64"])
    if task.get("image_path") is not None:
        return Path(task["image_path"]).read_bytes()
    return httpx.get(task["image_url"], timeout=10, follow_redirects=True).raise_for_status().content


def hand_off(array: np.ndarray) -> Path:
    """Write the tensor."""
    directory = settings.handoff_dir
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{uuid.uuid4().hex}.npy"
    np.save(path, array)
    return path
