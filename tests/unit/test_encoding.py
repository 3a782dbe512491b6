from __future__ import annotations

import base64
import shutil
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from legit_embedding.encoding import decode_embedding, encode_embedding


@given(
    arrays.arrays(np.float32, st.integers(1, 64), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
)
def test_round_trip_is_exact(vector):
    assert decode_embedding(encode_embedding(vector)).tobytes() == vector.tobytes()


def test_is_little_endian_float32_in_padded_base64():
    assert encode_embedding(np.array([1.0, -2.5])) == base64.b64encode(struct.pack("<2f", 1.0, -2.5)).decode()


def test_big_endian_and_strided_vectors_are_converted():
    vector = np.arange(8, dtype=">f4")[::2]
    assert decode_embedding(encode_embedding(vector)).tolist() == [0.0, 2.0, 4.0, 6.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_what_is_not_finite_is_never_written(bad):
    with pytest.raises(ValueError, match="finite"):
        encode_embedding(np.array([0.0, bad]))


def test_a_matrix_is_refused():
    with pytest.raises(ValueError, match="one dimension"):
        encode_embedding(np.zeros((2, 3)))


@pytest.mark.parametrize("bad", ["####", "AAA", "AAAA"])
def test_what_is_no_vector_is_refused(bad):
    with pytest.raises(ValueError, match=r".+"):
        decode_embedding(bad)


@pytest.mark.skipif(shutil.which("php") is None, reason="no php on the PATH")
def test_php_reads_the_same_floats():
    vector = np.array([0.25, -1.5, 3.0e-7], dtype=np.float32)
    script = "echo implode(' ', array_values(unpack('g*', base64_decode($argv[1], true))));"
    out = subprocess.run(["php", "-r", script, encode_embedding(vector)], check=True, capture_output=True, text=True)
    assert np.array(out.stdout.split(), dtype=np.float32).tolist() == vector.tolist()
