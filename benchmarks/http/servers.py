"""The servers: how each is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

from benchmarks.peers.environments import python_of
from tests.servers import free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

NULL = "legit_embedding.models.null:NullModel"
START_S = 180
OURS = "project"


@dataclass(frozen=True)
class HttpServer:
    """One of them.

    Attributes:
        name: in the table.
        environment: of `benchmarks/peers/requirements`, or the project's own.
        command: what its interpreter runs.
        null: whether it is asked for vectors that cost nothing.
    """

    name: str
    environment: str
    command: tuple[str, ...]
    null: bool = False

    @contextmanager
    def running(self, model: Path, threads: int, folder: Path) -> Iterator[int]:
        """Start it; its port is yielded."""
        port = free_port()
        python = sys.executable if self.environment == OURS else str(python_of(self.environment))
        words = [word.format(port=port, model=model) for word in self.command]
        with (folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [python, *words], env=self._variables(model, threads, port), cwd=folder, stdout=log, stderr=log
            )
        try:
            wait_for(lambda: answers(port) or process.poll() is not None, START_S, f"{self.name} to embed")
            assert process.poll() is None, (folder / "server.log").read_text()[-2000:]
            yield port
        finally:
            process.kill()
            process.wait(20)

    def _variables(self, model: Path, threads: int, port: int) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("LEGIT_", "CELERY_"))}
        return inherited | {
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "INFINITY_ANONYMOUS_USAGE_STATS": "0",
            "DO_NOT_TRACK": "1",
            "LEGIT_DEVICE": "cpu",
            "LEGIT_MODELS": json.dumps({"minilm": self._settings(model)}),
            "SERVER_MODEL": "" if self.null else str(model),
            "SERVER_PORT": str(port),
            "PYTHONPATH": str(Path(__file__).parents[2]) if self.environment == OURS else "",
        }

    def _settings(self, model: Path) -> dict[str, object]:
        if self.null:
            return {"kind": "text", "backend": NULL}
        return {"kind": "text", "backend": "transformers", "pretrained": str(model)}


def answers(port: int) -> bool:
    """True if a server embeds."""
    body = json.dumps({"model": "minilm", "input": ["a text"]}).encode()
    asked = Request(f"http://127.0.0.1:{port}/v1/embeddings", body, {"Content-Type": "application/json"})
    try:
        with urlopen(asked, timeout=30) as answer:  # noqa: S310 - an address of ours
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


SERVE = ("-m", "legit_embedding.cli", "serve", "--port", "{port}")
SERVICE = (str(Path(__file__).with_name("service.py")),)
INFINITY = (
    *("-c", "from infinity_emb.cli import cli; cli()", "v2"),
    *[
        "--model-id",
        "{model}",
        "--served-model-name",
        "minilm",
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
        "--url-prefix",
        "/v1",
    ],
    *["--engine", "torch", "--device", "cpu", "--dtype", "float32", "--batch-size", "32"],
    *["--no-bettertransformer", "--no-model-warmup", "--log-level", "warning"],
)
SERVERS = (
    HttpServer("legit-embedding serve", OURS, SERVE),
    HttpServer("infinity", "infinity", INFINITY),
    HttpServer("FastAPI and sentence-transformers", "fastapi", SERVICE),
)
NULL_SERVERS = (
    HttpServer("legit-embedding serve, null model", OURS, SERVE, null=True),
    HttpServer("FastAPI, no model", "fastapi", SERVICE, null=True),
)
