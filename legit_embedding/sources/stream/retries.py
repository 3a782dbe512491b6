"""Entries that were delivered before and that this worker retries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_TOGETHER = {1: 1, 2: 8, 3: 64}
"""The number of entries retried together, by the tries left to them; with more left, as many as there is room for."""


class Retries:
    """Owned entries that are not submitted yet. Decides which are retried next, and how many together.

    An entry may kill the process each time it is tried, and every other entry in flight then loses a try too. So the
    fewer tries entries have left, the fewer are tried together. With its last try an entry is alone, so that only
    entries at fault end in the dead letter.

    Args:
        max_deliveries: the most times an entry may be tried.
    """

    def __init__(self, max_deliveries: int) -> None:
        self._max_deliveries = max_deliveries
        self._tries: dict[str, int] = {}
        self.reclaimed = 0
        """The number of entries claimed from other workers."""

    def __len__(self) -> int:
        return len(self._tries)

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._tries

    def __iter__(self) -> Iterator[str]:
        return iter(self._tries)

    def add(self, tries: Mapping[str, int]) -> None:
        """Add entries, each with its number of tries."""
        self._tries.update(tries)

    def take_all(self) -> dict[str, int]:
        """Remove and return all entries, each with its number of tries."""
        taken, self._tries = self._tries, {}
        return taken

    def drop(self, entry_ids: Iterable[str]) -> None:
        """Remove entries that are in flight now, or owned by another worker."""
        for entry_id in entry_ids:
            self._tries.pop(entry_id, None)

    def dead(self) -> dict[str, int]:
        """The entries that have used all their tries."""
        return {entry_id: tries for entry_id, tries in self._tries.items() if tries >= self._max_deliveries}

    def harmless(self, room: int) -> dict[str, int]:
        """Up to `room` entries that may be tried beside any others."""
        found: dict[str, int] = {}
        for entry_id, tries in self._tries.items():
            if len(found) >= room:
                break
            if self._max_deliveries - tries not in _TOGETHER and tries < self._max_deliveries:
                found[entry_id] = tries
        return found

    def suspects(self) -> dict[str, int]:
        """The next group to be tried with nothing else in flight; entries with the most tries left come first."""
        left = [self._max_deliveries - tries for tries in self._tries.values()]
        most = max((tries for tries in left if tries in _TOGETHER), default=0)
        company = [entry for entry, tries in self._tries.items() if self._max_deliveries - tries == most]
        return {entry: self._tries[entry] for entry in company[: _TOGETHER.get(most, 0)]}
