"""Puts tasks into the task stream, many a round trip, without letting the stream grow too long."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import redis

BATCH = 256
BATCH_BYTES = 4 * 1024 * 1024
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Item:
    """One task on its way."""

    position: int
    """Where it stands in its source, from 1: a line's number, or an image's."""
    payload: bytes


@dataclass(slots=True)
class Progress:
    """How far it has come."""

    sent: int = 0
    position: int = 0
    """Everything up to here is confirmed."""
    uncertain: int = 0
    """Tasks on their way: after a broken connection, nobody knows whether they arrived. All of them or none."""
    waited_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.began

    @property
    def per_s(self) -> float:
        """Tasks a second, waiting included."""
        return self.sent / max(self.seconds, 1e-6)


class Feeder:
    """Sends items, and waits while the stream is too long.

    Args:
        client: the server.
        stream: the task stream.
        max_length: how many entries the stream may hold.
        progress: kept up to date.
        on_change: told after each batch, and while it waits (with the stream's length then, otherwise None).
    """

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        max_length: int,
        progress: Progress,
        on_change: Callable[[int | None], None],
    ) -> None:
        self._client = client
        self._stream = stream
        self._max_length = max_length
        self._on_change = on_change
        self._length: int | None = None
        self._progress = progress

    def feed(self, items: Iterable[Item]) -> None:
        """Send everything.

        Raises:
            RedisError: the progress says how far it came.
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
            pipeline.xlen(self._stream)
            *_, self._length = pipeline.execute()
        self._progress.uncertain = 0
        self._progress.sent += len(batch)
        self._progress.position = batch[-1].position
        self._on_change(None)

    def _wait_for_room(self) -> int:
        """How many entries the stream may still take; waits until it is one at least."""
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
