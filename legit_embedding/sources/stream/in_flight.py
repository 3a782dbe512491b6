"""The entries that are in the works here."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.wire.stream_entry import Entry


logger = logging.getLogger(__name__)


class InFlightEntries:
    """What was submitted and is not settled. Settled by any thread, watched by the loop's.

    Args:
        submit: takes an entry into the works.
        room: how many more entries the works can take.
    """

    def __init__(self, submit: Callable[[Entry], None], room: Callable[[], int]) -> None:
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
        """Everything that is in the works."""
        return list(self._held)

    def submit(self, entry: Entry) -> None:
        """Hold an entry and submit it; once `close` was called it is returned instead."""
        entry_id = entry.origin.id
        with self._lock:
            if self._closed:
                self._returned[entry_id] = entry.deliveries - 1
                return
            self._held[entry_id] = entry.deliveries
            self.submitted += 1
            try:
                self._submit(entry)
            except Exception:
                # It stays pending, and is tried again once it is idle for long enough.
                self._held.pop(entry_id, None)
                logger.exception("the stream entry %s was not taken", entry_id)

    def close(self) -> None:
        """Submit nothing more: when this returns, no call of `submit` is under way."""
        with self._lock:
            self._closed = True

    def settled(self, entry_id: str) -> None:
        """The entry was answered."""
        self._held.pop(entry_id, None)
        self.changed()

    def given_back(self, entry_id: str) -> None:
        """The entry was not tried: another worker may have it, and this delivery does not count."""
        deliveries = self._held.pop(entry_id, None)
        if deliveries is not None:
            self._returned[entry_id] = deliveries - 1
        self.changed()

    def take_held(self) -> dict[str, int]:
        """Let go of everything that is in the works; how often each was delivered."""
        held = dict(self._held)
        self._held.clear()
        return held

    def take_returned(self) -> dict[str, int]:
        """What is to be returned to the group, and how often it was really tried."""
        returned: dict[str, int] = {}
        while self._returned:
            entry_id, tries = self._returned.popitem()
            returned[entry_id] = tries
        return returned

    def changed(self) -> None:
        """Wake who waits for a change."""
        loop, self._loop = self._loop, None
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._changed.set)

    async def change(self, timeout: float) -> None:
        """Wait for the next change, or until the timeout."""
        self._changed.clear()
        self._loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout)
