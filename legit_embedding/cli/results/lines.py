"""Results as JSON lines on standard output."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from legit_embedding.cli.results.results import ResultEntry, Vectors


class Lines:
    """Prints each result as one line.

    Args:
        vectors: the format of printed vectors.
        say: reports a vector that cannot be decoded.
    """

    def __init__(self, vectors: Vectors, say: Callable[[str], None]) -> None:
        self._vectors = vectors
        self._say = say

    def write(self, entries: Sequence[ResultEntry]) -> None:
        """Print the entries and flush standard output."""
        sys.stdout.writelines(f"{json.dumps(self._line(entry))}\n" for entry in entries)
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
        return None if vector is None else vector.tolist()
