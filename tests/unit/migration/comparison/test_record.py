"""Reading results, good and bad."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from legit_embedding.encoding import encode_embedding, encode_entry
from legit_embedding.migration.comparison.record import Record

VECTOR = np.array([0.6, -0.8, 0.0], np.float32)
GOOD = {"task_id": "t", "status": "ok", "model": "m", "dim": "3", "encoding": "base64_fp32"}


@pytest.mark.parametrize("embedding", [encode_embedding(VECTOR), VECTOR.tolist()])
def test_a_vector_as_text_or_as_numbers(embedding):
    record = Record.of(GOOD | {"embedding": embedding}, 7)
    assert np.array_equal(np.frombuffer(record.vector, np.float32), VECTOR)
    assert (record.task_id, record.status, record.model, record.dim, record.at_ms) == ("t", "ok", "m", 3, 7)


@pytest.mark.parametrize(
    ("encoding", "least"), [("base64_fp16", 0.99999), ("base64_int8", 0.9999), ("base64_binary", 0.8)]
)
def test_a_vector_in_every_form(encoding, least):
    for dim in ("3", 3):  # as a result entry has it, and as `tail` prints it
        record = Record.of(GOOD | encode_entry(VECTOR, encoding) | {"dim": dim})
        found = np.frombuffer(record.vector, np.float32)
        assert record.status == "ok"
        assert found @ VECTOR / np.linalg.norm(found) >= least


def test_an_error_result_has_no_vector():
    record = Record.of({"task_id": "t", "status": "error", "error": "undecodable"})
    assert (record.status, record.error, record.vector) == ("error", "undecodable", b"")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"embedding": None},
        {"embedding": "not base64!"},
        {"embedding": base64.b64encode(b"odd").decode()},
        {"embedding": encode_embedding(np.zeros(3, np.float32))},
        {"embedding": base64.b64encode(np.array([np.nan], np.float32).tobytes()).decode()},
        {"embedding": encode_embedding(VECTOR), "encoding": "zstd"},
        encode_entry(VECTOR, "base64_int8") | {"scale": ""},
        {"embedding": [["nested"]]},
        {"embedding": [1e300]},
        {"embedding": []},
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_what_cannot_be_read_is_said(fields):
    record = Record.of(GOOD | fields)
    assert (record.status, record.vector) == ("unreadable", b"")
    assert record.error


def test_it_survives_the_spill():
    for record in (Record.of(GOOD | {"embedding": encode_embedding(VECTOR)}, 7), Record("ü\udc80", "error", error="x")):
        assert Record.restored(record.header(), record.vector) == record
