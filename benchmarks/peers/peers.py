"""The peers: how each is started, spoken to and counted."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.doors import CeleryDoor, PipeDoor, StreamDoor
from benchmarks.peers.environments import python_of
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.peers.doors import Door

ROOT = Path(__file__).parents[2]
PROTOTYPES = Path(__file__).parent / "prototypes"
OURS = "project"
"""The environment that this command itself runs in."""
VISIBILITY_S = 30
"""Longer than a kill's tasks take: what outlasts it Redis gives to a second worker, although the first one lives."""
WORKER = ("-m", "celery", "-A", "legit_embedding", "worker", "--pool=gpubatch", "-c", "2")
BATCHES = ("-m", "celery", "-A", "celery_batches_worker", "worker", "--pool=threads", "-c", "1", "-l", "INFO")
SETTINGS = ("legit_text.toml", "legit_image.toml")
SHARED = ("encoder.py",)
BRIDGE = ("bridge.py", *SHARED)


@dataclass(frozen=True)
class Setup:
    """The conditions that are the same for every peer."""

    models: Mapping[str, Path]
    """Their folders, by the kind of what they embed."""
    photos: Path
    """The folder with the photos."""
    threads: int


@dataclass(frozen=True)
class Peer:
    """One option.

    Attributes:
        name: in the table.
        environment: of `requirements/`, or the project's own.
        package: whose release is reported.
        command: what its interpreter runs, a prototype's file name first where there is one.
        way: "stream", "celery" or "memory": where its tasks wait.
        glue: the files that a user has to write for it.
        served: whether it can be asked one thing at a time.
    """

    name: str
    environment: str
    package: str
    command: tuple[str, ...]
    way: str
    glue: tuple[str, ...]
    served: bool = True

    def door(self, url: str) -> Door:
        """The way to a new process of it."""
        if self.way == "memory":
            return PipeDoor()
        if self.way == "stream":
            return StreamDoor(url)
        return CeleryDoor(url, PREPARE_TEXT, PREPARE_IMAGE) if self.environment == OURS else CeleryDoor(url, "embed")

    def line(self) -> list[str]:
        """The command line."""
        python = sys.executable if self.environment == OURS else str(python_of(self.environment))
        first, *rest = self.command
        return [python, str(PROTOTYPES / first) if first.endswith(".py") else first, *rest]

    def variables(self, setup: Setup, kind: str, url: str, folder: Path) -> dict[str, str]:
        """Its environment variables; threads that wait sleep, for every peer, as this worker does by itself."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("LEGIT_", "CELERY_"))}
        same = {
            "OMP_NUM_THREADS": str(setup.threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "DO_NOT_TRACK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "INFINITY_ANONYMOUS_USAGE_STATS": "0",
            "PEER_FOLDER": str(folder),
            "PEER_KIND": kind,
            "PEER_MODEL": str(setup.models[kind]),
            "PEER_REDIS_URL": url,
            "PEER_VISIBILITY_S": str(VISIBILITY_S),
        }
        return inherited | same | (self._ours(setup, kind, url) if self.environment == OURS else _theirs())

    def glue_lines(self) -> int:
        """Lines of code in the files that a user has to write."""
        return sum(code_lines((PROTOTYPES / name).read_text()) for name in self.glue)

    def _ours(self, setup: Setup, kind: str, url: str) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT),
            "CELERY_CONFIG_MODULE": "benchmarks.peers.prototypes.this_worker",
            "LEGIT_CONFIG": str(PROTOTYPES / f"legit_{kind}.toml"),
            "LEGIT_IMAGE_ROOTS": json.dumps([str(setup.photos)]),
            "LEGIT_REDIS_URL": url,
            "LEGIT_STREAMS__CONSUME": str(self.way == "stream").lower(),
            "LEGIT_WORKER_ID": "peer",
        }


def _theirs() -> dict[str, str]:
    # Triton's Python backend loads the interpreter's library by its name.
    path = os.pathsep.join(filter(None, (sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH"))))
    return {"PYTHONPATH": str(PROTOTYPES), "LD_LIBRARY_PATH": path}


def code_lines(source: str) -> int:
    """Lines that are neither blank nor a comment nor part of a docstring."""
    inside, found = False, 0
    for line in map(str.strip, source.splitlines()):
        quotes = line.count('"""')
        if inside or quotes:
            inside ^= quotes == 1
        elif line and not line.startswith("#"):
            found += 1
    return found


PEERS = (
    Peer("this worker, stream to stream", OURS, "legit-embedding", WORKER, "stream", SETTINGS),
    Peer("this worker, from Celery", OURS, "legit-embedding", WORKER, "celery", SETTINGS),
    Peer(
        "sentence-transformers, encode over the whole list",
        "sentence_transformers",
        "sentence-transformers",
        ("sentence_transformers_encode.py",),
        "memory",
        ("sentence_transformers_encode.py",),
        served=False,
    ),
    Peer(
        "infinity, AsyncEngineArray in process",
        "infinity",
        "infinity_emb",
        ("infinity_engine.py",),
        "memory",
        ("infinity_engine.py",),
    ),
    Peer(
        "celery-batches on threads",
        "celery_batches",
        "celery-batches",
        BATCHES,
        "celery",
        ("celery_batches_worker.py", *SHARED),
    ),
    Peer(
        "Ray Serve, @serve.batch", "ray", "ray", ("ray_batch.py",), "stream", ("ray_batch.py", "ray_model.py", *BRIDGE)
    ),
    Peer(
        "Ray Serve, task_consumer",
        "ray",
        "ray",
        ("ray_task_consumer.py",),
        "celery",
        ("ray_task_consumer.py", "ray_model.py", *SHARED),
    ),
    Peer(
        "bare asyncio loop",
        "asyncio_loop",
        "transformers",
        ("asyncio_loop.py",),
        "stream",
        ("asyncio_loop.py", *BRIDGE),
    ),
    Peer(
        "Triton, dynamic batcher (PyTriton)",
        "triton",
        "nvidia-pytriton",
        ("triton_server.py",),
        "stream",
        ("triton_server.py", *BRIDGE),
    ),
)
