"""Results as a Parquet file, written in row groups."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from legit_embedding.cli.results.outputs import create
from legit_embedding.cli.results.results import FLAGS, NUMBERS
from legit_embedding.cli.shared.terminal import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from legit_embedding.cli.results.results import ResultEntry

ROWS = 4096
"""Rows per row group; one row group is held in memory."""

TEXTS = ("id", "task_id", "status", "kind", "model", "error", "detail", "app", "source", "worker", "metadata")


class ParquetFile:
    """Parquet file with one row per result, including results without a vector.

    The columns are ``id`` and the fields of the contract's result entry; ``embedding`` is a list of float32,
    ``metadata`` is JSON text. The file is readable only after it is closed.

    Args:
        path: the file to write.
        force: replace an existing file.
        say: reports a vector that cannot be decoded.
    """

    def __init__(self, path: Path, *, force: bool, say: Callable[[str], None]) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            message = "--parquet needs pyarrow: pip install 'legit-embedding[parquet]'"
            raise click.ClickException(message) from None
        self._arrow = pa
        self._path = path
        self._say = say
        self._schema = pa.schema(
            [
                *((name, pa.string()) for name in TEXTS),
                *((name, pa.int64()) for name in NUMBERS),
                *((name, pa.bool_()) for name in FLAGS),
                ("embedding", pa.list_(pa.float32())),
            ]
        )
        self._file = create(path, force=force)
        self._writer = pq.ParquetWriter(self._file, self._schema)
        self._waiting: list[dict[str, Any]] = []
        self._rows = 0

    def write(self, entries: Sequence[ResultEntry]) -> None:
        """Append a page of results."""
        for entry in entries:
            self._waiting.append(self._row(entry))
            if len(self._waiting) >= ROWS:
                self._flush()

    def close(self) -> str:
        """Write the remaining rows and the footer that makes the file readable."""
        with self._file:
            self._flush()
            self._writer.close()
        return f"{counted(self._rows, 'result', 'results')} in {self._path}"

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._arrow.Table.from_pylist(self._waiting, schema=self._schema))
            self._rows += len(self._waiting)
            self._waiting = []

    def _row(self, entry: ResultEntry) -> dict[str, Any]:
        described = entry.described()
        row: dict[str, Any] = {name: described.get(name) for name in TEXTS}
        row |= {name: value if isinstance(value := described.get(name), int) else None for name in NUMBERS}
        row |= {name: described.get(name, False) for name in FLAGS}
        if "metadata" in described:
            row["metadata"] = json.dumps(described["metadata"])
        try:
            row["embedding"] = entry.vector()
        except ValueError as error:
            self._say(f"{entry.id}: the vector cannot be read: {error}")
            row["embedding"] = None
        return row
