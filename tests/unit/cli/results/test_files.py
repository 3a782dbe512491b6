from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click
import numpy as np
import pyarrow.parquet as pq
import pytest

from legit_embedding.cli.results import parquet
from legit_embedding.cli.results.npy import NpyFile
from legit_embedding.cli.results.parquet import ParquetFile
from tests.unit.cli.result_entries import bad, entry, good, vector

if TYPE_CHECKING:
    from pathlib import Path


def silent(_line: str) -> None:
    raise AssertionError(_line)


def ids(path: Path) -> list[str]:
    return [json.loads(line)["task_id"] for line in path.read_text().splitlines()]


def test_an_array_and_its_ids(tmp_path: Path) -> None:
    file = NpyFile(tmp_path / "v.npy", force=False, say=silent)
    file.write([entry(number, good(number)) for number in range(600)])
    file.write([entry(600, bad(600)), entry(601, good(601, metadata='"x\\ny"'))])
    summary = file.close()
    array = np.load(tmp_path / "v.npy")
    assert array.shape == (601, 4)
    assert array.dtype == np.float32
    numbers = [*range(600), 601]
    assert all(np.array_equal(row, vector(number)) for row, number in zip(array, numbers, strict=True))
    assert ids(tmp_path / "v.ids.jsonl") == [f"t{number}" for number in numbers]
    assert "601 vectors of 4 numbers" in summary
    assert summary.endswith("; 1 result without a vector left out")


def test_an_array_can_be_read_before_it_is_closed(tmp_path: Path) -> None:
    file = NpyFile(tmp_path / "v.npy", force=False, say=silent)
    for number in range(12):
        file.write([entry(number, good(number))])
        assert np.load(tmp_path / "v.npy").shape == (number + 1, 4)
        assert len(ids(tmp_path / "v.ids.jsonl")) == number + 1
    file.close()


def test_an_array_without_rows_is_an_array(tmp_path: Path) -> None:
    NpyFile(tmp_path / "v.npy", force=False, say=silent).close()
    assert np.load(tmp_path / "v.npy").shape == (0, 0)


def test_vectors_of_two_sizes_do_not_go_into_one_array(tmp_path: Path) -> None:
    file = NpyFile(tmp_path / "v.npy", force=False, say=silent)
    with pytest.raises(click.ClickException, match="a vector of 5 numbers among vectors of 4; --model"):
        file.write([entry(1, good(1)), entry(2, good(2, dim=5))])
    file.close()
    assert np.load(tmp_path / "v.npy").shape == (1, 4)


def test_a_vector_that_cannot_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    said: list[str] = []
    file = NpyFile(tmp_path / "v.npy", force=False, say=said.append)
    file.write([entry(1, good(1)), entry(2, good(2, embedding="!"))])
    file.close()
    assert np.load(tmp_path / "v.npy").shape == (1, 4)
    assert said[0].startswith("2-0: ")


@pytest.mark.parametrize("there", ["v.npy", "v.ids.jsonl"])
def test_files_are_replaced_only_by_force(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(click.ClickException, match=r"is there already; --force replaces it"):
        NpyFile(tmp_path / "v.npy", force=False, say=silent)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"
    NpyFile(tmp_path / "v.npy", force=True, say=silent).close()
    assert np.load(tmp_path / "v.npy").shape == (0, 0)


def test_parquet_holds_every_result_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS", 100)
    file = ParquetFile(tmp_path / "r.parquet", force=False, say=silent)
    for start in range(0, 240, 80):
        file.write([entry(number, good(number)) for number in range(start, start + 80)])
    file.write([entry(240, bad(240)), entry(241, good(241, dim=7, truncated="1", prep_ms="soon"))])
    assert len(file._waiting) == 42, "only the last row group is held"
    assert file.close() == f"242 results in {tmp_path / 'r.parquet'}"
    table = pq.ParquetFile(tmp_path / "r.parquet")
    assert [table.metadata.row_group(at).num_rows for at in range(table.num_row_groups)] == [100, 100, 42]
    rows = table.read().to_pylist()
    assert [row["task_id"] for row in rows] == [f"t{number}" for number in range(242)]
    assert np.array_equal(np.array(rows[17]["embedding"], dtype=np.float32), vector(17))
    assert rows[17]["metadata"] == '{"n": 17}'
    assert (rows[17]["id"], rows[17]["dim"], rows[17]["compute_ms"], rows[17]["truncated"]) == ("17-0", 4, 3, False)
    assert (rows[240]["embedding"], rows[240]["error"], rows[240]["dim"]) == (None, "undecodable", None)
    assert (len(rows[241]["embedding"]), rows[241]["truncated"], rows[241]["prep_ms"]) == (7, True, None)


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        click.ClickException, match=r"--parquet needs pyarrow: pip install 'legit-embedding\[parquet\]'"
    ):
        ParquetFile(tmp_path / "r.parquet", force=False, say=silent)
    assert not list(tmp_path.iterdir())
