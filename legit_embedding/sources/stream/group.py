"""The consumer group of the task stream, from the view of one consumer."""

from __future__ import annotations

import logging
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from legit_embedding.redis_io.connection import Script

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from legit_embedding.config import StreamConfig
    from legit_embedding.redis_io.connection import Argument, Command, Connection, Link

    Delivered = list[tuple[str, list[bytes]]]

logger = logging.getLogger(__name__)

_PAGE = 500


def _script(name: str) -> Script:
    return Script(files(__package__).joinpath(name).read_text(encoding="utf-8"))


MINE, RECLAIM, LEAVE = _script("mine.lua"), _script("reclaim.lua"), _script("leave.lua")


class Group:
    """One consumer's operations on its group. Every method may raise `RedisError`.

    Args:
        config: the streams.
        consumer: this consumer's name: the worker's identity.
        link: the server.
    """

    def __init__(self, config: StreamConfig, consumer: str, link: Link) -> None:
        self.consumer = consumer
        self.link = link
        self._config = config

    async def make(self) -> None:
        """Create the group and the stream if they do not exist; the group begins with the stream's oldest entry."""
        try:
            await self.link.call("XGROUP", "CREATE", self._config.tasks, self._config.group, "0", "MKSTREAM")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        else:
            logger.info("made the group %r of the stream %r", self._config.group, self._config.tasks)

    async def ask(self, connection: Connection, counts: Iterable[int], block_ms: int = 0) -> list[Command]:
        """Ask for new entries; the reads share one round trip, and `receive` takes what they bring.

        Args:
            connection: the connection that may block.
            counts: the most entries of each read.
            block_ms: how long the first read waits for entries, in milliseconds; 0 does not wait.
        """
        block: tuple[Argument, ...] = ("BLOCK", block_ms) if block_ms else ()
        head = ("XREADGROUP", "GROUP", self._config.group, self.consumer)
        reads: list[Command] = [(*head, "COUNT", count, *block, "STREAMS", self._config.tasks, ">") for count in counts]
        await connection.send(reads)
        return reads

    async def receive(self, connection: Connection, reads: Sequence[Command]) -> Delivered:
        """Wait for the entries that reads bring; reads are received in the order in which they were asked."""
        delivered: Delivered = []
        for reply in await connection.receive(reads):
            if isinstance(reply, ResponseError):
                if delivered:
                    break  # entries already read are kept, and the next read fails in the same way
                raise reply
            for _, entries in reply or ():
                delivered += _entries(entries)
        return delivered

    async def own(self) -> dict[str, int]:
        """Every pending entry of this consumer, with its number of deliveries."""
        owned: dict[str, int] = {}
        start = "-"
        while True:
            rows = await self.link.call(
                "XPENDING", self._config.tasks, self._config.group, start, "+", _PAGE, self.consumer
            )
            owned |= {row[0].decode(): row[3] for row in rows}
            if len(rows) < _PAGE:
                return owned
            start = f"({rows[-1][0].decode()}"

    async def reclaim(self, cursor: str, count: int) -> tuple[str, dict[str, int]]:
        """Claim some of the entries that were idle too long; this does not count as a delivery.

        Returns:
            The cursor for the next call (``0-0`` is the beginning), and each entry with its number of deliveries.
        """
        arguments: list[Argument] = [self._config.group, self.consumer, self._config.claim_idle_ms, cursor, count]
        following, found = await self.link.run(RECLAIM, [self._config.tasks], arguments)
        return following.decode(), {entry_id.decode(): deliveries for entry_id, deliveries in found}

    async def take(self, tries: Mapping[str, int]) -> Delivered:
        """Deliver own entries to this consumer once more; deleted entries and those of others are left out."""
        return _entries(await self._mine("take", 0, tries))

    async def keep(self, entry_ids: Iterable[str]) -> set[str]:
        """Reset the idle time of entries in progress; returns those that are pending and still this consumer's."""
        kept: list[bytes] = await self._mine("keep", 0, dict.fromkeys(entry_ids, 0))
        return {entry_id.decode() for entry_id in kept}

    async def give_back(self, tries: Mapping[str, int]) -> None:
        """Allow other consumers to claim these entries at once."""
        await self._mine("return", self._config.claim_idle_ms, tries)

    async def fields(self, entry_id: str) -> list[bytes]:
        """The fields of an entry; empty if it was deleted."""
        found = _entries(await self.link.call("XRANGE", self._config.tasks, entry_id, entry_id))
        return found[0][1] if found else []

    async def clear(self, entry_id: str) -> None:
        """Acknowledge an entry that no longer exists."""
        await self.link.call("XACK", self._config.tasks, self._config.group, entry_id)

    async def sweep(self, idle_ms: int) -> list[str]:
        """Remove consumers that are gone and own nothing; returns their names."""
        return await self._remove(idle_ms)

    async def leave(self) -> bool:
        """Remove this consumer if it owns no entries; True if it was removed."""
        return bool(await self._remove(""))

    async def _mine(self, what: str, idle_ms: int, tries: Mapping[str, int]) -> list[Any]:
        pairs = list(tries.items())
        found: list[Any] = []
        for start in range(0, len(pairs), _PAGE):
            page = [part for pair in pairs[start : start + _PAGE] for part in pair]
            head: list[Argument] = [self._config.group, self.consumer, idle_ms, what]
            found += await self.link.run(MINE, [self._config.tasks], [*head, *page])
        return found

    async def _remove(self, idle_ms: int | str) -> list[str]:
        arguments: list[Argument] = [self._config.group, self.consumer, idle_ms]
        return [name.decode() for name in await self.link.run(LEAVE, [self._config.tasks], arguments)]


def _entries(reply: Iterable[Any]) -> Delivered:
    return [(entry_id.decode(), fields) for entry_id, fields in reply if fields]
