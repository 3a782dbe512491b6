"""The connections that wait for their clients, and which of them gives way when there is no room."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Transport

GAVE_WAY, UNREAD, SLOW = CAUSES = ("gave_way", "unread", "slow")
"""The causes for which connections are closed on their clients: a newcomer needed the place or the memory, unread
answers took up too much memory, or the client let its time pass."""

UNREAD_BYTES = 256 * 1024 * 1024
"""The most bytes of answers that clients have not read, of all connections together: a dozen of the largest answers."""


class Patience:
    """The connections whose next step is their client's: to send a request, the rest of one, or to read an answer.

    A client that takes no such step is slow or hostile, and one that takes it soon is back at the end of the queue.
    So the connection that has waited longest is closed when another needs its place, and a newcomer never stands
    behind a thousand slow ones. All methods belong to the event loop's thread.
    """

    def __init__(self) -> None:
        self._waiting: dict[Transport, None] = {}
        self.closed: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))
        """The number of connections closed, by cause."""

    def begin(self, transport: Transport) -> None:
        """Note that from now on the connection waits for its client."""
        self._waiting.pop(transport, None)
        self._waiting[transport] = None

    def end(self, transport: Transport) -> None:
        """Note that the connection is being served, or closed."""
        self._waiting.pop(transport, None)

    def make_place(self) -> bool:
        """Close the connection that has waited longest; False if none waits for its client."""
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        self.close(longest, GAVE_WAY)
        return True

    def bound_unread(self, latest: Transport) -> None:
        """Close connections that don't read, longest waiting first, but not the latest, until the bytes fit."""
        if not latest.get_write_buffer_size():
            return
        unread = {each: size for each in self._waiting if (size := each.get_write_buffer_size())}
        total = sum(unread.values())
        for each, size in unread.items():
            if total <= UNREAD_BYTES or each is latest:
                return
            self.close(each, UNREAD)
            total -= size

    def close(self, transport: Transport, cause: str) -> None:
        """Close a connection on its client, and count it."""
        self.end(transport)
        self.closed[cause] += 1
        transport.abort()
