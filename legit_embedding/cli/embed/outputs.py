"""The files of vectors that ``embed`` writes, in the order of the inputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from legit_embedding.cli.embed.journal import FAILED
from legit_embedding.models.config import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from legit_embedding.cli.embed.inputs import Inputs
    from legit_embedding.cli.embed.journal import Journal
    from legit_embedding.cli.shared.space import Form

BLOCK = 4096
"""Rows that are in memory at a time."""

NPY, PARQUET = ".npy", ".parquet"


@dataclass(frozen=True, slots=True)
class Block:
    """Vectors, shape ``[n, dim]``, with their ids and kinds."""

    ids: list[str]
    kinds: list[str]
    vectors: NDArray[np.float32]


def writer(path: Path) -> Callable[[Path, Form, int, Iterator[Block]], None]:
    """Choose the function that writes a file of this name.

    Raises:
        ClickException: neither ``.npy`` nor ``.parquet``, or ``.parquet`` without pyarrow.
    """
    if path.suffix == NPY:
        return write_npy
    if path.suffix == PARQUET:
        arrow()
        return write_parquet
    message = f"--out: {path.name!r} ends in neither .npy nor .parquet"
    raise click.UsageError(message)


def blocks(inputs: Inputs, journal: Journal) -> Iterator[Block]:
    """Yield the vectors of a run in the order of its inputs; inputs that failed are left out."""
    ids = inputs.ids()
    while page := list(islice(ids, BLOCK)):
        start, stop = page[0][0] - 1, page[-1][0]
        states, vectors = journal.rows(start, stop)
        taken = [(at, position - 1 - start) for at, (position, _) in enumerate(page)]
        good = [(at, row) for at, row in taken if states[row] not in {0, FAILED}]
        if good:
            rows = [row for _, row in good]
            kinds: list[str] = [KINDS[int(states[row]) - 1] for row in rows]
            yield Block([page[at][1] for at, _ in good], kinds, np.asarray(vectors[rows], np.float32))


def ids_file(path: Path) -> Path:
    """The JSONL file that belongs to a ``.npy`` file: line N describes row N."""
    return path.with_suffix(".ids.jsonl")


def write_npy(path: Path, form: Form, count: int, found: Iterator[Block]) -> None:
    """Write a float32 array and the file of its ids."""
    space = form.space
    about = {"model": space.model, "revision": space.revision, "dim": space.dim}
    with path.open("wb") as array, ids_file(path).open("w") as ids:
        shape = (count, space.dim)
        np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for block in found:
            array.write(block.vectors.astype("<f4", copy=False).tobytes())
            for task_id, kind in zip(block.ids, block.kinds, strict=True):
                ids.write(f"{json.dumps({'task_id': task_id, 'kind': kind} | about)}\n")


def write_parquet(path: Path, form: Form, _count: int, found: Iterator[Block]) -> None:
    """Write the columns ``task_id``, ``kind`` and ``embedding``; the file's metadata name the model."""
    pa, pq = arrow()
    space = form.space
    about = {"model": space.model, "revision": space.revision, "dimensions": str(space.dim), "encoding": form.encoding}
    vector = pa.list_(pa.float32(), space.dim)
    schema = pa.schema([("task_id", pa.string()), ("kind", pa.string()), ("embedding", vector)], metadata=about)
    with pq.ParquetWriter(path, schema) as file:
        for block in found:
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.vectors.ravel()), space.dim)
            file.write_table(pa.table([pa.array(block.ids), pa.array(block.kinds), vectors], schema=schema))


def arrow() -> tuple[Any, Any]:
    """Import pyarrow and its Parquet module.

    Raises:
        ClickException: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        message = "a .parquet file needs pyarrow: pip install 'legit-embedding[parquet]'"
        raise click.ClickException(message) from None
    return pa, pq
