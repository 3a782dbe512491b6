"""One process serves over HTTP, and a worker uses it as its remote models: by ``http`` and by ``openai``."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from legit_embedding.encoding import decode_embedding
from legit_embedding.models.null import expected
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT, Client
from tests.images import encoded
from tests.servers import free_port
from tests.workers import Worker, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DIM = 16
NULL = {"backend": "legit_embedding.models.null:NullModel", "options": {"dim": DIM}}
TOKEN = "a-token"


def test_a_worker_whose_models_another_one_serves(
    client: Client, redis_url: str, tmp_path: Path, make_worker: Callable[..., Worker]
) -> None:
    port = free_port()
    serve = ("-m", "legit_embedding.cli", "serve")
    served = {"models": {"null": {"kinds": ["text", "image"]} | NULL}, "http": {"port": port, "token": TOKEN}}
    far = {"kinds": ["text", "image"], "base_url": f"http://127.0.0.1:{port}", "token": TOKEN, "name": "null"}
    models = {backend: far | {"backend": backend} for backend in ("http", "openai")}
    texts = {f"t{number}": f"text {number} \u00e9" for number in range(400)}
    images = {f"i{number}": encoded(Image.new("RGB", (20, 10 + number)), "PNG") for number in range(40)}
    tasks = [
        (name, {"task_id": f"{model}-{task}", "model": model} | content)
        for model in models
        for name, task, content in (
            *((PREPARE_TEXT, task, {"text": text}) for task, text in texts.items()),
            *((PREPARE_IMAGE, task, {"image_b64": b64encode(data).decode()}) for task, data in images.items()),
        )
    ]
    with (
        Worker(redis_url, tmp_path / "server", served, command=serve) as server,
        make_worker({"models": models}) as worker,
    ):
        worker.wait_ready()
        client.send_all(tasks)
        wait_for(lambda: client.redis.xlen("embedding_results") > 100, 60, "the first answers")
        server.kill()
        server.start()
        found = client.wait_for_entries(len(tasks), timeout=120)
        assert worker.stop() == 0
    assert {entry["task_id"] for entry in found} == {task["task_id"] for _, task in tasks}
    for entry in found:
        model, _, task = entry["task_id"].rpartition("-")
        assert (entry["model"], entry["status"]) == (model, "ok")
        assert np.allclose(decode_embedding(entry["embedding"]), expected((texts | images)[task], DIM), atol=1e-6)
