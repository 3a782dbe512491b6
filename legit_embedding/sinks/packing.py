"""Result entries as arguments in the Redis protocol.

Most of an entry is the same for every answer of a model, so it is packed once: an answer's own values are all that is
left to do for each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from legit_embedding.wire.result import Embedded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from legit_embedding.wire.result import Result

_VARYING = frozenset(
    ("task_id", "embedding", "scale", "app", "metadata", "source", "prep_ms", "queue_ms", "compute_ms")
)
"""The fields that differ between the answers of one layout, or whose values producers choose."""
_REMEMBERED = 4096
_LAYOUTS = 256


class _Layout:
    """The packed fields that many entries share, with places for each entry's own values."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.count = 2 * len(fields)
        self._parts: list[str] = []
        text = ""
        for name, value in fields.items():
            text += argument(name)
            if name in _VARYING:
                self._parts += (f"{text}$", "", "")  # before the value, its length, and the value
                text = "\r\n"
            else:
                text += argument(value)
        self._parts.append(text)

    def fill(self, values: Sequence[str]) -> list[str]:
        """The parts of an entry with these values, which are in the order of the fields."""
        parts = self._parts.copy()
        parts[1::3] = map(_size, map(len, values))
        parts[2::3] = values
        return parts


class EntryPacker:
    """Packs the entries of one worker. Not thread-safe.

    Args:
        worker: the identity for the field ``worker``.
    """

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self._layouts: dict[tuple[object, ...], _Layout] = {}

    def pack(self, result: Result) -> tuple[int, list[str]]:
        """Pack the entry of a result, `Result.fields`.

        Returns:
            The number of arguments, and their text, to be joined. If it is not ASCII, the lengths in it are wrong.
        """
        if not isinstance(result.outcome, Embedded):
            fields = result.fields(self.worker)
            layout = _Layout(fields)
            return layout.count, layout.fill([value for name, value in fields.items() if name in _VARYING])
        address, outcome, timings = result.address, result.outcome, result.timings
        layout = self._layout(result, outcome)
        values = [address.task_id, outcome.embedding]
        if outcome.scale:
            values.append(outcome.scale)
        if address.app is not None:
            values.append(address.app)
        if address.metadata is not None:
            values.append(address.metadata)
        values += result.origin.id, str(timings.prep_ms), str(timings.queue_ms), str(timings.compute_ms)
        return layout.count, layout.fill(values)

    def _layout(self, result: Result, outcome: Embedded) -> _Layout:
        key = (
            *(outcome.kind, outcome.model, outcome.dim, outcome.encoding, outcome.revision, outcome.windows),
            *(outcome.truncated, outcome.repaired, outcome.cached, bool(outcome.scale)),
            *(result.address.app is None, result.address.metadata is None),
        )
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= _LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[key] = _Layout(result.fields(self.worker))
        return layout


def argument(text: str) -> str:
    """Pack ASCII text."""
    return f"${len(text)}\r\n{text}\r\n"


@lru_cache(_REMEMBERED)
def _size(length: int) -> str:
    """The length of an argument in the Redis protocol; few occur, and formatting each would take longer."""
    return f"{length}\r\n"
