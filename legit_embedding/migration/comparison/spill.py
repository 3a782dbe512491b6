"""Records on disk, read back in parts that fit into memory easily."""

from __future__ import annotations

import sqlite3
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from legit_embedding.migration.comparison.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

BUCKETS = 256
"""A million 768-d vectors are 3 GB on disk, and 12 MB of a side in memory at a time."""

_MAKE = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE record (bucket INT, header BLOB, vector BLOB);
"""


class Spill:
    """One side's records in SQLite, in buckets by a hash of the task id: a task is in the same bucket of every side.

    Use it as a context manager: the file goes with it. It is below ``TMPDIR``.
    """

    def __init__(self) -> None:
        self._directory = TemporaryDirectory(prefix="legit-compare-")
        self._database = sqlite3.connect(Path(self._directory.name) / "records")
        self._database.executescript(_MAKE)
        self.records = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._database.close()
        self._directory.cleanup()

    def fill(self, records: Iterable[Record]) -> None:
        """Take all the records in, once."""
        rows = ((_bucket(record.task_id), record.header(), record.vector) for record in records)
        self.records += self._database.executemany("INSERT INTO record VALUES (?, ?, ?)", rows).rowcount
        self._database.execute("CREATE INDEX bucket ON record (bucket)")

    def bucket(self, number: int) -> Iterator[Record]:
        """The records of one bucket, in the order in which they came."""
        wanted = "SELECT header, vector FROM record WHERE bucket = ? ORDER BY rowid"
        return (Record.restored(header, vector) for header, vector in self._database.execute(wanted, (number,)))


def _bucket(task_id: str) -> int:
    return blake2b(task_id.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0]
