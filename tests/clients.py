"""What a producer and a consumer do: send tasks by name, and read result streams."""

from __future__ import annotations

import base64
import json
import uuid
from typing import TYPE_CHECKING, Any

import redis
from celery import Celery

from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.redis_io.celery_settings import celery_settings
from legit_embedding.redis_io.client import make_client
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from celery.result import AsyncResult

PREPARE_IMAGE = "legit_embedding.preparation.prepare_image"
PREPARE_TEXT = "legit_embedding.preparation.prepare_text"
PREPARE_BATCH = "legit_embedding.preparation.prepare_batch"
EMBED_IMAGE = "legit_embedding.embedding.embed_image"
EMBED_TEXT = "legit_embedding.embedding.embed_text"


class Client:
    """A producer that knows only the contract, and a consumer beside it."""

    def __init__(self, redis_url: str) -> None:
        self.app = Celery("producer", broker=redis_url, backend=redis_url, set_as_current=False)
        self.app.conf.task_default_queue = "embedding"
        self.redis = redis.Redis.from_url(redis_url)

    def close(self) -> None:
        """Let go of the server: a result that is collected when it has ended must not ask it anything."""
        consumer = self.app.backend.result_consumer
        consumer.stop()
        consumer._pubsub = None
        self.app.close()

    def send(self, name: str, *args: Any, **options: Any) -> AsyncResult:
        """Send one task by its name."""
        return self.app.send_task(name, args=args, **options)

    def send_all(self, tasks: Iterable[tuple[str, dict[str, Any]]], *, ignore_result: bool = True) -> list[str]:
        """Send many tasks over one connection; returns their Celery ids."""
        ids = []
        with self.app.producer_pool.acquire(block=True) as producer:
            for name, task in tasks:
                sent = self.app.send_task(name, args=(task,), producer=producer, ignore_result=ignore_result)
                ids.append(sent.id)
        return ids

    def text(self, text: str, **fields: Any) -> AsyncResult:
        """Send one text, with a task id of its own."""
        return self.send(PREPARE_TEXT, {"task_id": str(uuid.uuid4()), "text": text} | fields)

    def batching(self) -> dict[str, Any]:
        """The one worker's figures by model."""
        (reply,) = self.app.control.broadcast("batching", reply=True, timeout=10, limit=1)
        (answer,) = reply.values()
        models: dict[str, Any] = answer["ok"]["models"]
        return models

    def waiting(self, queue: str = "embedding") -> set[str]:
        """The task ids of the embedding tasks that lie in a queue."""
        bodies = (base64.b64decode(json.loads(message)["body"]) for message in self.redis.lrange(queue, 0, -1))
        return {task["task_id"] for (task, *_), *_ in map(json.loads, bodies) if isinstance(task, dict)}

    def entries(self, stream: str = "embedding_results") -> list[dict[str, str]]:
        """Every entry of a result stream, oldest first."""
        return [
            {key.decode(): value.decode() for key, value in fields.items()} for _, fields in self.redis.xrange(stream)
        ]

    def wait_for_entries(
        self, count: int, stream: str = "embedding_results", timeout: float = 60
    ) -> list[dict[str, str]]:
        """Wait until a result stream holds this many entries."""
        wait_for(lambda: self.redis.xlen(stream) >= count, timeout, f"{count} entries in {stream}", interval=0.05)
        return self.entries(stream)

    def answers(
        self, task_ids: Sequence[str], stream: str = "embedding_results", timeout: float = 60
    ) -> dict[str, dict[str, str]]:
        """Wait until each of these tasks is answered; one entry a task id, of those that came first."""

        def answered() -> dict[str, dict[str, str]] | None:
            found: dict[str, dict[str, str]] = {}
            for entry in self.entries(stream):
                found.setdefault(entry["task_id"], entry)
            return found if set(task_ids) <= set(found) else None

        return wait_for(answered, timeout, f"{len(task_ids)} task ids answered in {stream}", interval=0.1)


class AddressedClient(Client):
    """A producer and consumer that takes every address that ``redis_url`` takes."""

    def __init__(self, redis_url: str) -> None:
        address = RedisAddress.of(redis_url)
        self.app = Celery("producer", set_as_current=False)
        self.app.conf.task_default_queue = "embedding"
        self.app.conf.update(celery_settings(address, self.app.conf))
        self.redis = make_client(address, 5, retries=3)

    def close(self) -> None:
        """As `Client.close`, and the connections to Sentinels."""
        super().close()
        self.redis.close()
