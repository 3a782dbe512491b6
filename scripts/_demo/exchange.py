"""The producer's and the consumer's side of the wire, as any program would write them: it knows only the contract."""

from __future__ import annotations

import base64
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import redis
from celery import Celery

from services import TASKS as TASK_STREAM
from services import DemoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

Kind = Literal["image", "text"]
QUEUE = "embedding"
TASKS: Mapping[Kind, str] = {
    "image": "legit_embedding.preparation.prepare_image",
    "text": "legit_embedding.preparation.prepare_text",
}
PATIENCE = 90.0
"""Seconds without any answer after which the rest counts as lost."""
BROKEN = frozenset({"undecodable", "too_large"})
EXPIRES = 600
"""Seconds after which a task that nobody took is dropped, should the demo be interrupted."""


@dataclass(frozen=True)
class Item:
    """The content that was sent: a photo's path or a sentence."""

    kind: Kind
    content: str


@dataclass(frozen=True)
class Answer:
    """The answer to an item."""

    item: Item
    model: str
    vector: NDArray[np.float32]


class Exchange:
    """Sends tasks by name through Celery, and reads their answers from a result stream of its own."""

    def __init__(self, redis_url: str) -> None:
        self._stream = f"embedding_results:demo:{uuid.uuid4().hex[:12]}"
        self._position = "0-0"
        self._pending: dict[str, Item] = {}
        self.skipped: dict[str, str] = {}
        """Why a photo has no vector, by its path: a folder of one's own may hold damaged files."""
        self._sent = 0
        self._celery = Celery("demo", broker=redis_url, set_as_current=False)
        self._redis = redis.Redis.from_url(redis_url, decode_responses=True, protocol=2, socket_timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._redis.delete(self._stream, TASK_STREAM)
        except redis.RedisError:
            if error is None:
                raise
        finally:
            self._redis.close()
            self._celery.close()

    def refuse_shared_use(self) -> None:
        """Raise when others use this Redis: the demo's worker would take their tasks."""
        waiting = int(self._redis.llen(QUEUE))
        workers = [name for reply in self._celery.control.ping(timeout=1.0) for name in reply]
        if waiting or workers:
            found = (
                f"{waiting} tasks wait in its queue {QUEUE!r}, and these workers answer: {', '.join(workers) or '-'}"
            )
            message = f"the Redis in LEGIT_REDIS_URL is in use: {found}. Name an unused database, such as .../15"
            raise DemoError(message)

    def send(self, item: Item) -> None:
        """Submit one item."""
        task_id = uuid.uuid4().hex
        field = "image_path" if item.kind == "image" else "text"
        task = {"task_id": task_id, field: item.content, "reply_to": self._stream}
        self._pending[task_id] = item
        self._sent += 1
        self._celery.send_task(TASKS[item.kind], args=[task], queue=QUEUE, ignore_result=True, expires=EXPIRES)

    def answers(self, check: Callable[[], None]) -> Iterator[Answer]:
        """Yield the vectors of everything sent, as they come; `check` is called again and again and may raise."""
        last = time.monotonic()
        while self._pending:
            check()
            entries = self._read()
            if entries:
                last = time.monotonic()
            elif time.monotonic() - last > PATIENCE:
                message = f"{len(self._pending)} of {self._sent} tasks are lost: no answer for {PATIENCE:g} s"
                raise DemoError(message)
            for entry in entries:
                answer = self._accept(entry)
                if answer is not None:
                    yield answer

    def expect_no_more(self) -> None:
        """Raise unless every task was answered exactly once."""
        written = int(self._redis.xlen(self._stream))
        if written != self._sent:
            message = f"{self._sent} tasks were answered {written} times"
            raise DemoError(message)

    def mean_batches(self) -> dict[str, float]:
        """The average sizes of the worker's batches, by model."""
        for reply in self._celery.control.broadcast("batching", reply=True, timeout=10.0, limit=1):
            for shown in reply.values():
                return {name: model["batch_size_avg"] for name, model in shown["ok"]["models"].items()}
        message = "the worker does not answer `inspect batching`"
        raise DemoError(message)

    def _read(self) -> list[dict[str, str]]:
        replies: Any = self._redis.xread({self._stream: self._position}, count=500, block=500)
        entries = [entry for _, stream_entries in replies for entry in stream_entries]
        if entries:
            self._position = entries[-1][0]
        return [fields for _, fields in entries]

    def _accept(self, entry: Mapping[str, str]) -> Answer | None:
        item = self._pending.pop(entry["task_id"], None)
        if item is None:
            message = f"task {entry['task_id']} was answered twice, or never sent (source {entry.get('source')!r})"
            raise DemoError(message)
        if item.kind == "image" and entry.get("error") in BROKEN:
            self.skipped[item.content] = entry["detail"]
            return None
        if entry["status"] != "ok":
            message = f"{item.content!r} failed: {entry['error']}: {entry['detail']}"
            raise DemoError(message)
        return Answer(item, entry["model"], _decode(entry, item))


def _decode(entry: Mapping[str, str], item: Item) -> NDArray[np.float32]:
    vector = np.frombuffer(base64.b64decode(entry["embedding"], validate=True), dtype="<f4")
    length = float(np.linalg.norm(vector))
    if not (len(vector) == int(entry["dim"]) and abs(length - 1) < 1e-3):
        message = f"the vector of {item.content!r} has {len(vector)} values and the length {length:.6f}"
        raise DemoError(message)
    return vector
