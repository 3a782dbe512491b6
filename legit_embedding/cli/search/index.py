"""Files of vectors to search, read in blocks."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import click
import numpy as np

from legit_embedding.cli.embed.outputs import NPY, arrow, ids_file
from legit_embedding.cli.shared.space import Space

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK = 16_384
"""Rows that are in memory at a time: 67 MB of them with 1,024 numbers each."""


class Index(Protocol):
    """Vectors of one space."""

    space: Space

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors in order, each block of shape ``[n, dim]``."""

    def names(self, rows: Collection[int]) -> dict[int, tuple[str, str]]:
        """Look up the id and the kind of some rows."""


def open_index(path: Path) -> Index:
    """Open a file that ``embed`` wrote, or ``tail --npy``.

    Raises:
        ClickException: it is no such file.
    """
    try:
        return NpyIndex(path) if path.suffix == NPY else ParquetIndex(path)
    except (ValueError, KeyError) as error:
        message = f"{path} cannot be searched: {error}"
        raise click.ClickException(message) from error


class NpyIndex:
    """A NumPy array with the file of its ids.

    Args:
        path: the array.
    """

    def __init__(self, path: Path) -> None:
        self._ids = ids_file(path)
        self._vectors: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        first = next(self._lines(), None)
        if first is None:
            message = "it holds no vector"
            raise ValueError(message)
        about = json.loads(first)
        self.space = Space(about["model"], about.get("revision", ""), self._vectors.shape[1])

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the rows, mapped from the file."""
        for start in range(0, len(self._vectors), BLOCK):
            yield self._vectors[start : start + BLOCK]

    def names(self, rows: Collection[int]) -> dict[int, tuple[str, str]]:
        """Parse these rows' lines only."""
        found = {row: json.loads(line) for row, line in enumerate(self._lines()) if row in rows}
        return {row: (about["task_id"], about["kind"]) for row, about in found.items()}

    def _lines(self) -> Iterator[bytes]:
        with self._ids.open("rb") as file:
            yield from file


class ParquetIndex:
    """A Parquet file with the columns ``task_id``, ``kind`` and ``embedding``.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        pa, pq = arrow()
        try:
            self._file = pq.ParquetFile(path)
        except pa.ArrowException as error:
            raise ValueError(str(error)) from error
        about = {key.decode(): value.decode() for key, value in (self._file.schema_arrow.metadata or {}).items()}
        if not {"model", "revision", "dimensions"} <= set(about):
            message = "its metadata name no model, so `embed` did not write it"
            raise ValueError(message)
        self.space = Space(about["model"], about["revision"], int(about["dimensions"]))

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the column ``embedding``."""
        for batch in self._file.iter_batches(BLOCK, columns=["embedding"]):
            yield batch.column(0).flatten().to_numpy().reshape(-1, self.space.dim)

    def names(self, rows: Collection[int]) -> dict[int, tuple[str, str]]:
        """Read the two short columns."""
        return {row: name for row, name in enumerate(self._names()) if row in rows}

    def _names(self) -> Iterator[tuple[str, str]]:
        for batch in self._file.iter_batches(BLOCK, columns=["task_id", "kind"]):
            columns: list[list[Any]] = [column.to_pylist() for column in batch.columns]
            yield from zip(*columns, strict=True)


def nearest(index: Index, query: NDArray[np.float32], top: int) -> list[tuple[int, float]]:
    """Find the rows with the largest cosine to a vector.

    Args:
        index: the vectors.
        query: shape ``[dim]``.
        top: at most so many rows.

    Returns:
        Rows and cosines, the nearest first; of equal ones, the first row first.
    """
    rows, cosines, start = np.zeros(0, np.int64), np.zeros(0, np.float32), 0
    unit = query / _length(query)
    for block in index.blocks():
        found = block @ unit / _length(block)
        rows = np.concatenate([rows, np.arange(start, start + len(block))])
        cosines = np.concatenate([cosines, found])
        if len(rows) > top:
            kept = np.sort(np.argpartition(-cosines, top - 1)[:top])
            rows, cosines = rows[kept], cosines[kept]
        start += len(block)
    order = np.argsort(-cosines, kind="stable")
    return [(int(rows[at]), float(cosines[at])) for at in islice(order, top)]


def _length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lengths of vectors; 1 for a zero vector, which is near to nothing."""
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("...d,...d->...", vectors, vectors))
    return np.where(lengths > 0, lengths, np.float32(1))
