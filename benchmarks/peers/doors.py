"""The ways of tasks to a peer, and of its answers back."""

from __future__ import annotations

import json
import queue
import threading
from typing import TYPE_CHECKING, Any, Protocol

import redis
from celery import Celery

from benchmarks.peers.accounting import Answer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from benchmarks.peers.corpus import Task

TASKS, RESULTS, QUEUE = "embedding_tasks", "embedding_results", "embedding"
PAGE = 500


class Door(Protocol):
    """One way in and out."""

    pipes: bool
    """True if answers come from the process's standard output."""

    def attach(self, process: subprocess.Popen[bytes]) -> None:
        """A process has been started, for the first time or again."""

    def send(self, tasks: Sequence[Task]) -> None:
        """Hand over some tasks."""

    def answers(self) -> list[Answer]:
        """The answers since the last call."""


class RedisDoor:
    """Answers from the result stream; their time is the server's."""

    pipes = False

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, decode_responses=True)
        self._since = "-"

    def attach(self, process: subprocess.Popen[bytes]) -> None:
        """Nothing to do: the server outlives the process."""

    def answers(self) -> list[Answer]:
        """Read on."""
        found = []
        while page := self._redis.xrange(RESULTS, self._since, count=PAGE):
            self._since = f"({page[-1][0]}"
            for entry, fields in page:
                assert fields.get("status") == "ok", fields
                found.append(Answer(fields["task_id"], int(entry.split("-")[0]) / 1000, fields["embedding"]))
        return found


class StreamDoor(RedisDoor):
    """Tasks by the task stream."""

    def send(self, tasks: Sequence[Task]) -> None:
        """Add them all in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for task in tasks:
                pipe.xadd(TASKS, task)
            pipe.execute()


class CeleryDoor(RedisDoor):
    """Tasks by a Celery queue."""

    def __init__(self, url: str, text_name: str, image_name: str = "") -> None:
        super().__init__(url)
        self._names = {"text": text_name, "image": image_name or text_name}
        self._app = Celery("producer", broker=url, set_as_current=False)

    def send(self, tasks: Sequence[Task]) -> None:
        """Send them one by one over one connection, as Celery does."""
        with self._app.producer_pool.acquire(block=True) as producer:
            for task in tasks:
                name = self._names["text" if "text" in task else "image"]
                self._app.send_task(name, args=(task,), queue=QUEUE, producer=producer, ignore_result=True)


class PipeDoor:
    """Tasks by a process's standard input, answers from its standard output, timed by the process."""

    pipes = True

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._found: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def attach(self, process: subprocess.Popen[bytes]) -> None:
        """Read what it prints, until it ends."""
        self._process = process
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def send(self, tasks: Sequence[Task]) -> None:
        """One line for them all."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(tasks).encode() + b"\n")
        self._process.stdin.flush()

    def answers(self) -> list[Answer]:
        """The answers read meanwhile."""
        return [self._found.get() for _ in range(self._found.qsize())]

    def _read(self, lines: Any) -> None:  # noqa: ANN401 - a pipe
        with lines:
            for line in lines:
                if line.endswith(b"\n"):  # a process that is killed may leave half of one
                    self._found.put(Answer(**json.loads(line)))
