from __future__ import annotations

import base64

import numpy as np
import pytest

from legit_embedding.remote.answers import BrokenAnswerError, parsed, vectors


def b64(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


def test_vectors_are_float32_of_length_1() -> None:
    found = vectors([[3, 4.0], b64(0.0, -2.0)], 2, None, normalize=True)
    assert found.dtype == np.float32
    assert np.allclose(found, [[0.6, 0.8], [0, -1]])


def test_they_keep_their_length_where_the_settings_say_so() -> None:
    assert vectors([[3, 4], [0, 0]], 2, 2, normalize=False).tolist() == [[3, 4], [0, 0]]


@pytest.mark.parametrize(
    "row",
    [
        *([float("nan"), 1.0], [1.0, float("inf")], [1e39, 1.0], [10**400, 1.0], [None, 1.0], ["1", 1.0], [True, 1.0]),
        *([[1.0], [1.0]], {"0": 1.0}, None, 1.0, [], [1.0], [1.0, 1.0, 1.0], [0.0, 0.0]),
        *(b64(float("nan"), 1), b64(1, float("inf")), b64(1), b64(), "", "AAA", "AAAA", "!!!!", b64(1, 2) + "\n"),
    ],
)
@pytest.mark.parametrize("known", [2, None])
def test_a_row_that_is_no_vector_breaks_the_answer(row: object, known: int | None) -> None:
    with pytest.raises(BrokenAnswerError):
        vectors([[1.0, 2.0], row, [2.0, 1.0]], 3, known, normalize=True)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_any_other_number_of_vectors_breaks_the_answer(count: int) -> None:
    with pytest.raises(BrokenAnswerError, match=f"2 vectors for {count} items"):
        vectors([[1.0], [2.0]], count, 1, normalize=True)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"null", b'"text"', b"1", b"{", b'{"a": 1}}', b'{"a": NaN}', b'{"a": -Infinity}', b"\xff\xfe{"),
        *(b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' + b"1" * 5000 + b"}", b"<html></html>"),
    ],
)
def test_what_is_no_object_is_no_answer(body: bytes) -> None:
    with pytest.raises(BrokenAnswerError):
        parsed(body)
