"""Who answered what, and the line of the report that says so."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import redis

RESULTS = "embedding_results*"
PAGE = 500
REPORT = "SOAK_REPORT"
"""The environment variable with the file that rows are appended to."""


@dataclass(frozen=True)
class Row:
    """One run of one scenario."""

    scenario: str
    server: str
    tasks: int
    answered: int
    duplicates: int
    harm: str
    seconds: float
    shares: dict[str, int]


@dataclass
class Outcomes:
    """Every answer on every result stream, without the vectors."""

    ids: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    workers: Counter[str] = field(default_factory=Counter)
    errors: dict[str, str] = field(default_factory=dict)
    """The error code of each bad answer, by its source."""

    @classmethod
    def read(cls, client: redis.Redis) -> Outcomes:
        """Read them all."""
        answers = cls()
        for stream in client.scan_iter(match=RESULTS, _type="stream"):
            for entry in entries(client, stream):
                answers.ids[entry["task_id"]] += 1
                answers.sources[entry["source"]] += 1
                answers.workers[entry["worker"]] += 1
                if entry["status"] != "ok":
                    answers.errors[entry["source"]] = entry["error"]
        return answers

    @property
    def duplicates(self) -> int:
        """How many answers are one too many."""
        return self.ids.total() - len(self.ids)

    def check(self, ids: Collection[str], scenario: str, server: str, harm: str, seconds: float) -> None:
        """Report; then see that each of these tasks is answered well, none is twice, and there is no other."""
        shares = dict(sorted(self.workers.items()))
        report(Row(scenario, server, len(ids), len(self.ids), self.duplicates, harm, seconds, shares))
        twice = [task_id for task_id, count in self.ids.items() if count > 1]
        assert not twice, f"answered more than once: {twice[:10]}"
        assert not self.errors, f"bad answers: {dict(list(self.errors.items())[:10])}"
        missing = set(ids) - self.ids.keys()
        assert not missing, f"{len(missing)} were never answered: {sorted(missing)[:10]}"
        assert self.ids.keys() == set(ids)


def entries(client: redis.Redis, stream: str) -> Iterator[dict[str, str]]:
    """A stream's entries, oldest first, a page at a time."""
    start = "-"
    while page := client.xrange(stream, start, "+", count=PAGE):
        yield from (fields for _, fields in page)
        start = f"({page[-1][0]}"


def report(row: Row) -> None:
    """Print a row, and append it to the report if there is one."""
    print(f"{row.scenario}, {row.server}: {row.answered} of {row.tasks} answered, {row.duplicates} twice", end="; ")
    print(f"{row.harm or 'no harm'}; {row.seconds:.1f} s; {row.shares}")
    path = os.environ.get(REPORT)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
