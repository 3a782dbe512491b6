"""Result stream of one command, for the answers to its own tasks."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, cast

import click

from legit_embedding.cli.results.results import ResultEntry
from legit_embedding.cli.shared.connection import BLOCK_MS
from legit_embedding.redis_io.entries import FIRST

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from legit_embedding.config import StreamConfig
    from legit_embedding.redis_io.entries import Entry

PAGE = 1000


def reply_stream(streams: StreamConfig, command: str) -> str:
    """Make up a stream name that workers may write to.

    Raises:
        ClickException: the settings allow none.
    """
    name = f"{streams.results}:{command}:{token_hex(6)}"
    if not streams.allows(name):
        message = f"streams.reply_to_allow has no pattern for {name!r}, where {command} wants its answers"
        raise click.ClickException(message)
    return name


class Replies:
    """Reads a result stream that belongs to one command.

    The stream expires, so that a command that never comes back leaves nothing behind.

    Args:
        client: the Redis client.
        stream: the stream's name.
        expire_s: seconds after the last `keep` for which it is kept.
    """

    def __init__(self, client: redis.Redis, stream: str, expire_s: int) -> None:
        self.stream = stream
        self._client = client
        self._expire_s = expire_s
        self._after = FIRST

    def make(self) -> None:
        """Make the stream where it is missing: only a key that exists can expire."""
        if not self._client.exists(self.stream):
            self._client.xdel(self.stream, self._client.xadd(self.stream, {"made": "1"}))
        self._client.expire(self.stream, self._expire_s)

    def read(self) -> list[ResultEntry]:
        """Wait up to a second for answers, and return at most `PAGE` of them."""
        reply = self._client.xread({self.stream: self._after}, count=PAGE, block=BLOCK_MS)
        streams = cast("list[tuple[bytes, list[Entry]]]", reply)
        entries = [ResultEntry.of(entry) for _, page in streams for entry in page]
        if entries:
            self._after = entries[-1].id
        return entries

    def drop(self, entries: Sequence[ResultEntry]) -> None:
        """Delete answers that are safe elsewhere."""
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.xdel(self.stream, *(entry.id for entry in entries))
            pipeline.expire(self.stream, self._expire_s)
            pipeline.execute()

    def remove(self) -> None:
        """Delete the stream."""
        self._client.delete(self.stream)
