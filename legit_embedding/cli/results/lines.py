"""Results as JSON lines on standard output."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from legit_embedding.cli.shared.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from legit_embedding.cli.results.results import ResultEntry, Vectors

_FIRST = 2
"""Numbers of a vector that a terminal shows."""


class Lines:
    """Prints each result as one line.

    Args:
        vectors: the format of printed vectors; None for numbers, of which a terminal gets the first ones only.
        say: reports a vector that cannot be decoded.
    """

    def __init__(self, vectors: Vectors | None, say: Callable[[str], None]) -> None:
        self._vectors = vectors
        self._say = say
        self._format = _shortened if vectors is None and sys.stdout.isatty() else json.dumps

    def write(self, entries: Sequence[ResultEntry]) -> None:
        """Print the entries and flush standard output."""
        sys.stdout.writelines(f"{self._format(self._line(entry))}\n" for entry in entries)
        sys.stdout.flush()

    def close(self) -> str:
        """Do nothing and return an empty message."""
        return ""

    def _line(self, entry: ResultEntry) -> dict[str, Any]:
        line = entry.described()
        if self._vectors == "none" or "embedding" not in entry.fields:
            return line
        if self._vectors == "base64":
            encoding = {"encoding": entry.fields["encoding"]} if "encoding" in entry.fields else {}
            return line | encoding | {"embedding": entry.fields["embedding"]}
        return line | {"embedding": self._floats(entry)}

    def _floats(self, entry: ResultEntry) -> list[float] | None:
        try:
            vector = entry.vector()
        except ValueError as error:
            self._say(f"{entry.id}: the vector cannot be read: {error}")
            return None
        # By way of text: the shortest numbers that give the same float32, not those of the same float64.
        return None if vector is None else [float(number) for number in vector.astype(str)]


def _shortened(line: dict[str, Any]) -> str:
    """Format a line for a person: the first numbers of the vector, and how many there are."""
    vector = line.get("embedding")
    if not vector:
        return json.dumps(line, ensure_ascii=False)
    rest = json.dumps({key: value for key, value in line.items() if key != "embedding"}, ensure_ascii=False)
    first = ", ".join(f"{number:.4f}" for number in vector[:_FIRST])
    return printable(f'{rest[:-1]}, "embedding": [{first}, … {len(vector)}]}}')
