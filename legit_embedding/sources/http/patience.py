"""The connections that wait for their clients, and which of them gives way when there is no room."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Transport

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
        self._abort(longest)
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
            self._abort(each)
            total -= size

    def _abort(self, transport: Transport) -> None:
        self.end(transport)
        transport.abort()
