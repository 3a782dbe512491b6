"""A pipeline of null models behind its HTTP door, in this process and without Redis."""

from __future__ import annotations

import socket
from typing import Any

import httpx

from legit_embedding.config import Settings
from legit_embedding.pipeline.pipeline import Pipeline
from legit_embedding.sources.http.source import HttpSource
from legit_embedding.telemetry.health import state_of
from tests.servers import free_port

DIM = 8
NULL = {"backend": "legit_embedding.models.null:NullModel", "default": True, "options": {"dim": DIM}}
MODELS: dict[str, Any] = {"words": NULL | {"kind": "text"}, "pictures": NULL | {"kind": "image"}}


class Served:
    """A pipeline with its door."""

    def __init__(self, models: dict[str, Any], http: dict[str, Any], *, start: bool) -> None:
        self.port = free_port()
        settings = Settings(device="cpu", models=models, http={"port": self.port, **http})
        self.pipeline = Pipeline(settings, "pod", 2, redis=False)
        self.source = HttpSource(self.pipeline, lambda: state_of(self.pipeline.snapshot()))
        self.pipeline.add_source(self.source)
        if start:
            self.pipeline.start()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def embed(self, **body: Any) -> httpx.Response:
        return self.client.post("/embed", json=body)

    def openai(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/embeddings", json=body)

    def connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def close(self) -> None:
        self.client.close()
        self.pipeline.stop()


def slow(seconds: float, **more: Any) -> dict[str, Any]:
    """A model that embeds one text at a time, slowly."""
    options = {"dim": DIM, "batch_s": seconds}
    return {"words": NULL | {"kind": "text", "options": options, "max_batch": 1} | more}
