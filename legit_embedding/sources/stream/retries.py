"""Entries that were delivered before, and are this worker's to try again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_TOGETHER = {1: 1, 2: 8, 3: 64}
"""How many are tried together, by the tries that are left to them; with more left, as many as there is room for."""


class Retries:
    """Owned, but not given to the pipeline yet. Decides what is tried next, and in which company.

    One entry may kill the process each time it is tried, and every entry that is in the works with it then loses a try
    too. So the fewer tries are left, the smaller the company; and with the last one an entry is alone, so that only
    what deserves it ends in the dead letter.

    Args:
        max_deliveries: how often an entry may be tried.
    """

    def __init__(self, max_deliveries: int) -> None:
        self._max_deliveries = max_deliveries
        self._tries: dict[str, int] = {}
        self.reclaimed = 0
        """How many were another worker's."""

    def __len__(self) -> int:
        return len(self._tries)

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._tries

    def __iter__(self) -> Iterator[str]:
        return iter(self._tries)

    def add(self, tries: Mapping[str, int]) -> None:
        """Take entries in, each with how often it was tried."""
        self._tries.update(tries)

    def drop(self, entry_ids: Iterable[str]) -> None:
        """Forget entries that are in the works now, or another's."""
        for entry_id in entry_ids:
            self._tries.pop(entry_id, None)

    def dead(self) -> dict[str, int]:
        """Those that were tried as often as they may."""
        return {entry_id: tries for entry_id, tries in self._tries.items() if tries >= self._max_deliveries}

    def harmless(self, room: int) -> dict[str, int]:
        """Up to `room` of those that may be tried beside anything else."""
        found: dict[str, int] = {}
        for entry_id, tries in self._tries.items():
            if len(found) >= room:
                break
            if self._max_deliveries - tries not in _TOGETHER and tries < self._max_deliveries:
                found[entry_id] = tries
        return found

    def suspects(self) -> dict[str, int]:
        """The next company to be tried while nothing else is; those with the most tries left come first."""
        left = [self._max_deliveries - tries for tries in self._tries.values()]
        most = max((tries for tries in left if tries in _TOGETHER), default=0)
        company = [entry for entry, tries in self._tries.items() if self._max_deliveries - tries == most]
        return {entry: self._tries[entry] for entry in company[: _TOGETHER.get(most, 0)]}
