from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from legit_embedding.cli.results.lines import Lines
from legit_embedding.cli.results.results import Filter
from legit_embedding.encoding import CODECS, decode_entry, encode_entry
from tests.unit.cli.result_entries import bad, entry, good, vector


def line(fields: dict[str, str], vectors: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict, list[str]]:
    said: list[str] = []
    Lines(vectors, said.append).write([entry(1, fields)])
    return json.loads(capsys.readouterr().out), said


def test_a_line_has_numbers_and_objects(capsys: pytest.CaptureFixture[str]) -> None:
    found, said = line(good(3, truncated="1"), "floats", capsys)
    assert np.array_equal(np.array(found.pop("embedding"), dtype=np.float32), vector(3))
    assert found == {
        "id": "1-0",
        "task_id": "t3",
        "status": "ok",
        "kind": "text",
        "model": "minilm",
        "dim": 4,
        "app": "shop",
        "metadata": {"n": 3},
        "source": "3-0",
        "worker": "w1",
        "prep_ms": 1,
        "queue_ms": 2,
        "compute_ms": 3,
        "truncated": True,
    }
    assert not said


def test_vectors_as_they_were_sent_or_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = line(good(3), "base64", capsys)
    assert (found["encoding"], found["embedding"]) == ("base64_fp32", good(3)["embedding"])
    assert not {"encoding", "embedding"} & set(line(good(3), "none", capsys)[0])


def test_a_printed_number_is_the_shortest_that_gives_the_same_vector(capsys: pytest.CaptureFixture[str]) -> None:
    sent = np.array([0.1, -0.3, 1e-8, 0.70710678], dtype=np.float32)
    Lines("floats", print).write([entry(1, good(3) | encode_entry(sent, "base64_fp32"))])
    shown = capsys.readouterr().out
    assert "[0.1, -0.3, 1e-08, 0.70710677]" in shown
    assert np.array_equal(np.array(json.loads(shown)["embedding"], dtype=np.float32), sent)


def test_a_terminal_gets_the_beginning_of_a_vector(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = good(3) | encode_entry(np.full(384, -0.05103), "base64_fp32")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    Lines(None, print).write([entry(1, fields)])
    assert capsys.readouterr().out.endswith('"embedding": [-0.0510, -0.0510, … 384]}\n')
    Lines("floats", print).write([entry(1, fields)])
    assert len(json.loads(capsys.readouterr().out)["embedding"]) == 384


@pytest.mark.parametrize("encoding", CODECS)
def test_vectors_in_every_form_are_printed_as_numbers(encoding: str, capsys: pytest.CaptureFixture[str]) -> None:
    sent = encode_entry(np.array([0.5, -0.5, 0.5, -0.5]), encoding)
    found, said = line(good(3) | sent, "floats", capsys)
    assert np.allclose(found["embedding"], decode_entry(sent))
    assert np.sign(found["embedding"]).tolist() == [1, -1, 1, -1]
    assert not said


def test_an_error_has_no_vector(capsys: pytest.CaptureFixture[str]) -> None:
    found, said = line(bad(1), "floats", capsys)
    assert (found["error"], found["detail"]) == ("undecodable", "no image")
    assert "embedding" not in found
    assert not said


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"embedding": "!!!!"}, "base64"),
        ({"embedding": "AAA="}, "buffer size"),
        ({"dim": "5"}, "4 numbers, but dim is 5"),
        ({"encoding": "zstd"}, "the encoding 'zstd' is not known"),
    ],
)
def test_a_vector_that_cannot_be_read_is_null_and_told(
    fields: dict[str, str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, said = line(good(3) | fields, "floats", capsys)
    assert found["embedding"] is None
    assert len(said) == 1
    assert said[0].startswith("1-0: the vector cannot be read: ")
    assert why.lower() in said[0].lower()


def test_what_does_not_fit_the_contract_is_passed_on_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = line(bad(1) | {"prep_ms": "soon", "metadata": "{", "more": "\x1b[2J"}, "floats", capsys)
    assert (found["prep_ms"], found["metadata"], found["more"]) == ("soon", "{", "\x1b[2J")


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Filter(), True),
        (Filter(status="ok", model="minilm", app="shop"), True),
        (Filter(status="error"), False),
        (Filter(model="other"), False),
        (Filter(app="other"), False),
    ],
)
def test_filter(wanted: Filter, taken: bool) -> None:
    assert wanted.takes(entry(1, good(1))) is taken


def test_an_error_is_of_no_model() -> None:
    assert not Filter(model="minilm").takes(entry(1, bad(1)))
