from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from legit_embedding.cli.embed.outputs import Block, write_npy, write_parquet
from legit_embedding.cli.search import index
from legit_embedding.cli.search.index import nearest, open_index
from legit_embedding.cli.shared.space import Form, Space

if TYPE_CHECKING:
    from pathlib import Path

WRITERS = {".npy": write_npy, ".parquet": write_parquet}
VECTORS = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)


def made(folder: Path, suffix: str, vectors: np.ndarray = VECTORS) -> Path:
    path = folder / f"v{suffix}"
    halves = [range(len(vectors) // 2), range(len(vectors) // 2, len(vectors))]
    blocks = (Block([f"t{row}" for row in half], ["text"] * len(half), vectors[half]) for half in halves)
    WRITERS[suffix](path, Form(Space("m", "r1", vectors.shape[1]), "base64_fp32"), len(vectors), blocks)
    return path


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("top", [1, 7, 999, 1000, 5000])
def test_blocks_rank_as_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, top: int) -> None:
    monkeypatch.setattr(index, "BLOCK", 64)
    opened = open_index(made(tmp_path, suffix))
    query = 3 * VECTORS[700] + VECTORS[20]
    cosines = VECTORS @ query / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(query)
    found = nearest(opened, query, top)
    assert [row for row, _ in found] == np.argsort(-cosines)[:top].tolist()
    assert np.allclose([cosine for _, cosine in found], np.sort(cosines)[::-1][:top], atol=1e-5)
    assert opened.names({3, 999}) == {3: ("t3", "text"), 999: ("t999", "text")}
    assert opened.space == Space("m", "r1", 8)


def test_a_zero_vector_is_near_to_nothing(tmp_path: Path) -> None:
    vectors = np.array([[0, 0], [1, 1], [-1, 0]], np.float32)
    found = nearest(open_index(made(tmp_path, ".npy", vectors)), vectors[1], 3)
    assert [row for row, _ in found] == [1, 0, 2]
    assert found[1][1] == 0


def test_other_files_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"embedding": [[1.0]]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("text")
    (tmp_path / "text.npy").write_text("text")
    np.save(tmp_path / "bare.npy", VECTORS)
    (tmp_path / "bare.ids.jsonl").write_text(f"{json.dumps({'task_id': 'a'})}\n")
    for name, why in (
        ("other.parquet", "its metadata name no model"),
        ("text.parquet", "Parquet"),
        ("text.npy", ""),
        ("bare.npy", "'model'"),
    ):
        with pytest.raises(click.ClickException, match=f"{name} cannot be searched: .*{why}"):
            open_index(tmp_path / name)
