"""Reads of new entries, several of which may be under way."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legit_embedding.redis_io.connection import Command, Connection
    from legit_embedding.sources.stream.group import Delivered, Group


class ReadAhead:
    """The reads under way on one connection. Every method may raise `RedisError`.

    Args:
        group: the group, as this consumer sees it.
        connection: the connection that reads.
    """

    def __init__(self, group: Group, connection: Connection) -> None:
        self._group = group
        self._connection = connection
        self._under_way: deque[tuple[Sequence[Command], int]] = deque()
        self.asked = 0
        """The most entries that the reads under way may bring."""

    @property
    def is_left(self) -> bool:
        """True once another server is responsible for the stream."""
        return self._connection.left

    async def ask(self, counts: Sequence[int], block_ms: int = 0) -> None:
        """Ask for entries, with the arguments of `Group.ask`."""
        reads = await self._group.ask(self._connection, counts, block_ms)
        self._under_way.append((reads, sum(counts)))
        self.asked += sum(counts)

    async def receive(self) -> tuple[Delivered, bool]:
        """Wait for the entries that were asked for first.

        Returns:
            The entries, and True if there were as many as asked for, so that there may be more.
        """
        reads, count = self._under_way.popleft()
        self.asked -= count
        delivered = await self._group.receive(self._connection, reads)
        return delivered, len(delivered) == count
