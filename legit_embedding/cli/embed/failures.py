"""The inputs of a run that have no vector, counted by error code."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import IO, TYPE_CHECKING, NamedTuple

from legit_embedding.cli.shared.tables import table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import RenderableType

EXAMPLES = 3
"""The number of failures shown per code."""

LEFT_OUT = "left_out"
"""Stands in for a code where no task was sent."""

UNREADABLE = "unreadable"
"""Stands in for a code where the answer's vector cannot be decoded."""


class Failure(NamedTuple):
    """Why one input has no vector."""

    position: int | None
    """None where `detail` names the file itself."""
    code: str
    detail: str


class Failures:
    """Counts failures, and appends each to a JSONL file from which a later call reads them back.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: defaultdict[str, list[Failure]] = defaultdict(list)
        self._file: IO[bytes] = path.open("a+b")
        self._file.seek(0)
        known = (Failure(*json.loads(line)) for line in self._file if line.endswith(b"\n"))
        for failure in dict.fromkeys(known):  # the last ones may have been reported twice
            self._count(failure)

    def add(self, failure: Failure) -> None:
        """Count and keep a failure."""
        self._file.write(f"{json.dumps(failure)}\n".encode())
        self._file.flush()
        self._count(failure)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def board(self, ids: Mapping[int, str]) -> RenderableType:
        """Lay out the codes with their first examples.

        Args:
            ids: the id of each example's position.
        """
        rows = [
            (code if example is shown[0] else "", f"{count:,}" if example is shown[0] else "", _told(example, ids))
            for code, count in self.counts.most_common()
            for shown in [self.examples[code]]
            for example in shown
        ]
        return table("Failed", ("Code", "Tasks", "First of them"), rows, right=("Tasks",))

    def _count(self, failure: Failure) -> None:
        self.counts[failure.code] += 1
        examples = self.examples[failure.code]
        if len(examples) < EXAMPLES:
            examples.append(failure)


def _told(failure: Failure, ids: Mapping[int, str]) -> str:
    if failure.position is None:
        return failure.detail
    return f"{ids.get(failure.position, failure.position)}: {failure.detail}"
