from __future__ import annotations

import base64
import shutil
import struct
import subprocess
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from legit_embedding.encoding import CODECS, decode_embedding, decode_entry, encode_embedding, encode_entry
from legit_embedding.models.config import Encoding


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


VECTORS = arrays.arrays(
    np.float32, st.integers(1, 64), elements=st.floats(-1000, 1000, width=32, allow_nan=False, allow_infinity=False)
)


def test_the_settings_know_every_encoding():
    assert get_args(Encoding) == tuple(CODECS)


@given(VECTORS)
def test_half_floats_are_the_nearest(vector):
    assert np.array_equal(decode_entry(encode_entry(vector, "base64_fp16")), vector.astype("<f2").astype("<f4"))


@given(VECTORS)
def test_int8_is_off_by_half_a_step_at_most(vector):
    largest = np.abs(vector).max()
    # Below, a step is a number with few digits of its own, and 127 steps are not the largest value.
    assume(not largest or largest / 127 >= np.finfo(np.float32).smallest_normal)
    fields = encode_entry(vector, "base64_int8")
    scale = float(fields["scale"])
    assert np.abs(decode_entry(fields) - vector).max() <= scale * 0.5001
    assert np.float32(fields["scale"]) == np.float32(largest / 127) or not largest


@given(VECTORS)
def test_sign_bits_say_what_is_above_zero(vector):
    fields = encode_entry(vector, "base64_binary")
    assert len(base64.b64decode(fields["embedding"])) == -(-len(vector) // 8)
    assert np.array_equal(decode_entry(fields), np.where(vector > 0, 1, -1))


def test_the_most_significant_bit_comes_first():
    assert (
        base64.b64decode(encode_embedding(np.array([1.0, -1, -1, -1, -1, -1, -1, -1, 1]), "base64_binary"))
        == b"\x80\x80"
    )


def test_a_value_beyond_half_floats_is_refused():
    with pytest.raises(ValueError, match="65504"):
        encode_embedding(np.array([1.0, 7e4]), "base64_fp16")


def test_int8_needs_its_scale_both_ways():
    with pytest.raises(ValueError, match="encode_entry"):
        encode_embedding(np.ones(3), "base64_int8")
    with pytest.raises(ValueError, match="scale"):
        decode_embedding("AQID", "base64_int8")
    assert decode_embedding("AQID", "base64_int8", scale=0.5).tolist() == [0.5, 1.0, 1.5]


@pytest.mark.parametrize("encoding", CODECS)
def test_another_dim_than_said_is_refused(encoding):
    fields = encode_entry(np.ones(16), encoding) | {"dim": "25"}
    with pytest.raises(ValueError, match="25"):
        decode_entry(fields)


def test_an_unknown_encoding_names_the_known_ones():
    with pytest.raises(ValueError, match="base64_int8"):
        decode_embedding("AAAA", "base64_fp8")
