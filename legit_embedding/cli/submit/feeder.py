"""Sends tasks to the task stream, many per round trip, with backpressure from the stream's length."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import redis
    from redis.client import Pipeline

BATCH = 256
BATCH_BYTES = 4 * 1024 * 1024
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Item:
    """One task to send."""

    position: int
    """Its position in the source, counted from 1: the number of a line or of an image."""
    payload: bytes


@dataclass(slots=True)
class Progress:
    """Progress of a submission."""

    sent: int = 0
    position: int = 0
    """Everything up to this position is confirmed."""
    uncertain: int = 0
    """Tasks in flight: after a broken connection it is unknown whether they arrived. All of them did, or none."""
    waited_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    @property
    def per_s(self) -> float:
        """Tasks per second, including the time spent waiting."""
        return self.sent / max(self.seconds, 1e-6)


class Feeder:
    """Sends items, and waits while the stream is at its length limit.

    Args:
        client: the Redis client.
        stream: the task stream.
        max_length: most entries that the stream may hold.
        progress: updated after each batch.
        on_change: called with None after each batch, and with the stream's length while waiting.
        along: adds commands to the transaction that sends a batch.
    """

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        max_length: int,
        progress: Progress,
        on_change: Callable[[int | None], None],
        along: Callable[[Pipeline, list[Item]], None] = lambda _pipeline, _batch: None,
    ) -> None:
        self._client = client
        self._stream = stream
        self._max_length = max_length
        self._on_change = on_change
        self._along = along
        self._length: int | None = None
        self._progress = progress

    def feed(self, items: Iterable[Item]) -> None:
        """Send all items.

        Raises:
            RedisError: the server failed; ``progress`` says how far it got.
        """
        batch: list[Item] = []
        size = 0
        for item in items:
            batch.append(item)
            size += len(item.payload)
            if len(batch) >= BATCH or size >= BATCH_BYTES:
                self._send(batch)
                batch, size = [], 0
        self._send(batch)

    def _send(self, batch: list[Item]) -> None:
        while batch:
            room = self._wait_for_room()
            self._commit(batch[:room])
            batch = batch[room:]

    def _commit(self, batch: list[Item]) -> None:
        self._progress.uncertain = len(batch)
        with self._client.pipeline(transaction=True) as pipeline:
            for item in batch:
                pipeline.xadd(self._stream, {"payload": item.payload})
            self._along(pipeline, batch)
            pipeline.xlen(self._stream)
            *_, self._length = pipeline.execute()
        self._progress.uncertain = 0
        self._progress.sent += len(batch)
        self._progress.position = batch[-1].position
        self._on_change(None)

    def _wait_for_room(self) -> int:
        """Wait until the stream has room, and return for how many entries (at least one)."""
        length = self._length if self._length is not None else self._measure()
        began = time.monotonic()
        while length >= self._max_length:
            self._on_change(length)
            time.sleep(POLL_S)
            length = self._measure()
            self._progress.waited_s, began = self._progress.waited_s + time.monotonic() - began, time.monotonic()
        return self._max_length - length

    def _measure(self) -> int:
        self._length = int(self._client.xlen(self._stream))
        return self._length
