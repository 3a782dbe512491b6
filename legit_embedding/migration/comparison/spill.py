"""Records on disk, in as many files as it takes for one of them to fit into memory easily."""

from __future__ import annotations

import struct
from contextlib import ExitStack
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

_LENGTHS = struct.Struct("<II")


class Spill:
    """One side's records, in buckets by a hash of the task id: the same task is in the same bucket of every side.

    Use it as a context manager: the files go with it. They are below ``TMPDIR``.
    """

    def __init__(self) -> None:
        self._directory = TemporaryDirectory(prefix="legit-compare-")
        self.records = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._directory.cleanup()

    def fill(self, records: Iterable[Record]) -> None:
        """Take all the records in, once."""
        with ExitStack() as stack:
            files = [stack.enter_context(self._path(bucket).open("wb")) for bucket in range(BUCKETS)]
            for record in records:
                header = record.header()
                file = files[_bucket(record.task_id)]
                file.write(_LENGTHS.pack(len(header), len(record.vector)))
                file.write(header)
                file.write(record.vector)
                self.records += 1

    def bucket(self, number: int) -> Iterator[Record]:
        """The records of one bucket, in the order in which they came."""
        with self._path(number).open("rb") as file:
            while lengths := file.read(_LENGTHS.size):
                header, vector = _LENGTHS.unpack(lengths)
                yield Record.restored(file.read(header), file.read(vector))

    def _path(self, bucket: int) -> Path:
        return Path(self._directory.name) / f"{bucket:03}"


def _bucket(task_id: str) -> int:
    return blake2b(task_id.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0]
