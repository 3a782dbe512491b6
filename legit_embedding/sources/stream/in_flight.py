"""The stream entries that are in flight in this worker."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from legit_embedding.wire.stream_entry import Entry


logger = logging.getLogger(__name__)


class InFlightEntries:
    """Entries that are submitted and not settled. Settled from any thread, watched by the event loop's.

    Args:
        submit: submits entries to the pipeline, together.
        room: returns the number of further entries that the pipeline accepts, given the number that the way holds.
    """

    def __init__(self, submit: Callable[[Sequence[Entry]], None], room: Callable[[int], int]) -> None:
        self._submit = submit
        self.room = room
        self.submitted = 0
        self._held: dict[str, int] = {}
        self._returned: dict[str, int] = {}
        self._lock = Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._held

    def ids(self) -> list[str]:
        """The ids of all entries in flight."""
        return list(self._held)

    def submit(self, entries: Sequence[Entry]) -> None:
        """Record entries and submit them together; after `close` they are returned to the group instead."""
        deliveries = {entry.origin.id: entry.deliveries for entry in entries}
        with self._lock:
            if self._closed:
                self._returned.update((entry_id, count - 1) for entry_id, count in deliveries.items())
                return
            self._held.update(deliveries)
            self.submitted += len(entries)
            try:
                self._submit(entries)
            except Exception:
                # They stay pending, and are retried once they have been idle for long enough.
                for entry_id in deliveries:
                    self._held.pop(entry_id, None)
                logger.exception("the stream entries %s were not taken", ", ".join(deliveries))

    def close(self) -> None:
        """Stop submitting: when this returns, no call of `submit` is in progress."""
        with self._lock:
            self._closed = True

    def settled(self, entry_id: str) -> None:
        """Remove an entry that was answered."""
        self._held.pop(entry_id, None)
        self.changed()

    def given_back(self, entry_id: str) -> None:
        """Return an entry that was not tried: another worker may have it, and this delivery does not count."""
        deliveries = self._held.pop(entry_id, None)
        if deliveries is not None:
            self._returned[entry_id] = deliveries - 1
        self.changed()

    def take_held(self) -> dict[str, int]:
        """Remove and return all entries in flight, each with its number of deliveries."""
        held = dict(self._held)
        self._held.clear()
        return held

    def take_returned(self) -> dict[str, int]:
        """Remove and return the entries to return to the group, each with its number of actual tries."""
        returned: dict[str, int] = {}
        while self._returned:
            entry_id, tries = self._returned.popitem()
            returned[entry_id] = tries
        return returned

    def changed(self) -> None:
        """Wake the coroutine that waits for a change."""
        loop, self._loop = self._loop, None
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._changed.set)

    async def change(self, timeout: float) -> None:
        """Wait for the next change or the timeout, in seconds."""
        self._changed.clear()
        self._loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout)
