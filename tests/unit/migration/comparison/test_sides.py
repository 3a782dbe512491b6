"""Results in a file."""

from __future__ import annotations

import json

import pytest

from legit_embedding.migration.comparison.sides import FileSource


def source(tmp_path, *lines):
    path = tmp_path / "results.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return FileSource(path)


def test_lines_of_tail_are_read(tmp_path):
    line = {"id": "1700000000000-3", "task_id": "t", "status": "ok", "model": "m", "dim": 2, "embedding": [0.6, 0.8]}
    file, steps = source(tmp_path, json.dumps(line), "", json.dumps({"task_id": "u", "embedding": [1]})), []
    records = list(file.records(steps.append))
    assert [(record.task_id, record.dim, record.at_ms) for record in records] == [
        ("t", 2, 1700000000000),
        ("u", 1, None),
    ]
    assert sum(steps) == file.size()


@pytest.mark.parametrize("line", ["nonsense", "[]", "{}", '{"task_id": '])
def test_a_line_that_is_no_result_is_named(tmp_path, line):
    with pytest.raises(ValueError, match=r"results.jsonl, line 2: "):
        list(source(tmp_path, '{"task_id": "t", "embedding": [1]}', line).records(lambda _: None))
