"""Vectors as one NumPy array on disk, with a JSONL file that describes each row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import numpy as np

from legit_embedding.cli.results.outputs import create
from legit_embedding.cli.shared.terminal import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from legit_embedding.cli.results.results import ResultEntry

DTYPE = "<f4"


class NpyFile:
    """Growing ``.npy`` file that is valid after each page, even if the process dies then.

    Row N of the array belongs to line N of the accompanying ``NAME.ids.jsonl``. Results without a vector are skipped.

    Args:
        path: the file to write.
        force: replace existing files.
        say: reports a vector that cannot be decoded.
    """

    def __init__(self, path: Path, *, force: bool, say: Callable[[str], None]) -> None:
        self.path = path
        self.ids_path = path.with_suffix(".ids.jsonl")
        self._array = create(path, force=force)
        try:
            self._ids = create(self.ids_path, force=force)
        except BaseException:
            self._array.close()
            if not force:
                path.unlink()
            raise
        self._say = say
        self._rows = self._left_out = 0
        self._dim: int | None = None
        self._write_header()

    def write(self, entries: Sequence[ResultEntry]) -> None:
        """Append the vectors of these results."""
        for entry in entries:
            vector = self._read(entry)
            if vector is None:
                self._left_out += 1
            else:
                self._check(entry, vector)
                self._array.write(vector.astype(DTYPE, copy=False).tobytes())
                self._ids.write(f"{json.dumps(entry.described())}\n".encode())
                self._rows += 1
        self._complete()

    def close(self) -> str:
        """Close both files."""
        with self._array, self._ids:
            self._complete()
        vectors = f"{counted(self._rows, 'vector', 'vectors')} of {self._dim or 0} numbers"
        words = f"{vectors} in {self.path}, their ids in {self.ids_path}"
        if self._left_out:
            words += f"; {counted(self._left_out, 'result', 'results')} without a vector left out"
        return words

    def _read(self, entry: ResultEntry) -> NDArray[np.float32] | None:
        try:
            return entry.vector()
        except ValueError as error:
            self._say(f"{entry.id}: the vector cannot be read: {error}")
            return None

    def _check(self, entry: ResultEntry, vector: NDArray[np.float32]) -> None:
        if self._dim is None:
            self._dim = len(vector)
            self._write_header()
        if len(vector) != self._dim:
            message = (
                f"{entry.id}: a vector of {len(vector)} numbers among vectors of {self._dim}; "
                "--model chooses one model's results"
            )
            raise click.ClickException(message)

    def _complete(self) -> None:
        """Make both files valid: the header counts a row only once its data and ids are written."""
        self._ids.flush()
        self._array.flush()
        self._write_header()

    def _write_header(self) -> None:
        """Rewrite the header in place: NumPy pads it so that the row count has room to grow."""
        self._array.seek(0)
        shape = (self._rows, self._dim or 0)
        np.lib.format.write_array_header_1_0(self._array, {"descr": DTYPE, "fortran_order": False, "shape": shape})
        self._array.flush()
        self._array.seek(0, 2)
