"""The encodings of vectors on streams."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import pybase64

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

ENCODING = "base64_fp32"
"""The encoding of results that name none, and of settings that choose none."""
LARGEST_INT8 = 127


class Encoded(NamedTuple):
    """A vector as a result carries it."""

    text: str
    scale: str = ""
    """The field ``scale`` of the result; empty where the encoding needs none."""


class Codec(Protocol):
    """One encoding: bytes of a vector, which are sent as base64, and back."""

    def pack(self, vector: NDArray[np.float32]) -> tuple[bytes | memoryview, str]:
        """Convert a finite vector, shape ``[dim]``, to bytes and its scale (empty for none).

        Raises:
            ValueError: the encoding cannot hold one of the values.
        """

    def unpack(self, packed: bytes, dim: int | None, scale: str) -> NDArray[np.float32]:
        """Convert bytes back to a vector, shape ``[dim]``.

        Raises:
            ValueError: the bytes do not make such a vector.
        """


class _Floats:
    """The vector's floats, little-endian."""

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)

    def pack(self, vector: NDArray[np.float32]) -> tuple[bytes | memoryview, str]:
        if vector.dtype == self._dtype:
            return np.ascontiguousarray(vector).data, ""
        with np.errstate(over="ignore"):
            wire = np.ascontiguousarray(vector, self._dtype)
        if not np.logical_and.reduce(np.isfinite(wire)):
            largest = np.finfo(self._dtype).max
            message = f"a value is beyond {largest:g}, the largest of {self._dtype.itemsize * 8}-bit floats"
            raise ValueError(message)
        return wire.data, ""

    def unpack(self, packed: bytes, dim: int | None, scale: str) -> NDArray[np.float32]:  # noqa: ARG002
        return np.frombuffer(packed, self._dtype).astype(np.float32, copy=False)


class _Int8:
    """Symmetric: the vector is ``int8 * scale``, and the largest absolute value is 127."""

    def pack(self, vector: NDArray[np.float32]) -> tuple[bytes | memoryview, str]:
        scale = np.float32(np.abs(vector).max(initial=0) / LARGEST_INT8) or np.float32(1)
        return np.rint(vector / scale).clip(-LARGEST_INT8, LARGEST_INT8).astype(np.int8).data, str(scale)

    def unpack(self, packed: bytes, dim: int | None, scale: str) -> NDArray[np.float32]:  # noqa: ARG002
        factor = np.float32(scale or np.nan)
        if not (np.isfinite(factor) and factor > 0):
            message = f"base64_int8 needs a scale above 0, not {scale!r}"
            raise ValueError(message)
        return np.frombuffer(packed, np.int8) * factor


class _SignBits:
    """One bit per value, most significant first: 1 where it is above 0 (as sentence-transformers has it).

    Read back as 1 and -1: their dot product is ``dim`` less twice the Hamming distance.
    """

    def pack(self, vector: NDArray[np.float32]) -> tuple[bytes | memoryview, str]:
        return np.packbits(vector > 0).data, ""

    def unpack(self, packed: bytes, dim: int | None, scale: str) -> NDArray[np.float32]:  # noqa: ARG002
        count = 8 * len(packed) if dim is None else dim
        if not 8 * len(packed) - 8 < count <= 8 * len(packed):
            message = f"{len(packed)} bytes do not hold {count} sign bits"
            raise ValueError(message)
        return np.unpackbits(np.frombuffer(packed, np.uint8), count=count).astype(np.float32) * 2 - 1


CODECS: dict[str, Codec] = {
    ENCODING: _Floats("<f4"),
    "base64_fp16": _Floats("<f2"),
    "base64_int8": _Int8(),
    "base64_binary": _SignBits(),
}


def encode_embedding(vector: NDArray[np.floating], encoding: str = ENCODING) -> str:
    """Encode a vector as padded base64; by default of its little-endian float32 bytes.

    Args:
        vector: shape ``[dim]``, any float dtype.
        encoding: ``base64_fp32``, ``base64_fp16`` or ``base64_binary``; ``base64_int8`` needs `encode_entry`.

    Raises:
        ValueError: the vector is not one-dimensional, contains NaN or infinity (in float32), or does not fit the
            encoding; or the encoding is unknown, or is one that cannot be decoded without a scale.
    """
    encoded = encode_finite(_validated(vector), encoding)
    if encoded.scale:
        message = f"{encoding} is decoded with a scale: use encode_entry, which returns it"
        raise ValueError(message)
    return encoded.text


def encode_entry(vector: NDArray[np.floating], encoding: str = ENCODING) -> dict[str, str]:
    """Encode a vector as the fields of a result: ``dim``, ``encoding``, ``embedding`` and, if there is one, ``scale``.

    Raises:
        ValueError: as `encode_embedding`.
    """
    encoded = encode_finite(_validated(vector), encoding)
    fields = {"dim": str(len(vector)), "encoding": encoding, "embedding": encoded.text}
    return fields | ({"scale": encoded.scale} if encoded.scale else {})


def encode_finite(vector: NDArray[np.float32], encoding: str = ENCODING) -> Encoded:
    """Encode a vector that is already validated: float32, shape ``[dim]``, finite.

    Raises:
        ValueError: it does not fit the encoding, or the encoding is unknown.
    """
    packed, scale = _codec(encoding).pack(vector)
    return Encoded(pybase64.b64encode_as_string(packed), scale)


def decode_embedding(
    text: str, encoding: str = ENCODING, *, dim: int | None = None, scale: float | str = ""
) -> NDArray[np.float32]:
    """Decode the field ``embedding`` of a result: float32, shape ``[dim]``, possibly read-only.

    Args:
        text: padded base64.
        encoding: the result's field of that name.
        dim: the number of values; ``base64_binary`` without it is read as whole bytes.
        scale: the result's field of that name, for ``base64_int8``.

    Raises:
        ValueError: the text is not base64, not a vector of `dim` values in this encoding, or the encoding is unknown.
    """
    vector = _codec(encoding).unpack(base64.b64decode(text, validate=True), dim, str(scale))
    if dim is not None and len(vector) != dim:
        message = f"{len(vector)} numbers, but dim is {dim}"
        raise ValueError(message)
    return vector


def decode_entry(fields: Mapping[str, str]) -> NDArray[np.float32]:
    """Decode the vector of a result entry: float32, shape ``[dim]``, possibly read-only.

    Args:
        fields: a result's fields, of which ``embedding`` is required.

    Raises:
        ValueError: as `decode_embedding`.
        KeyError: the result has no ``embedding``.
    """
    encoding, dim = fields.get("encoding", ENCODING), fields.get("dim")
    return decode_embedding(
        fields["embedding"], encoding, dim=None if dim is None else int(dim), scale=fields.get("scale", "")
    )


def _codec(encoding: str) -> Codec:
    try:
        return CODECS[encoding]
    except KeyError:
        message = f"the encoding {encoding!r} is not known; known are {', '.join(CODECS)}"
        raise ValueError(message) from None


def _validated(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are rejected
        wire = np.ascontiguousarray(vector, dtype=np.float32)
    if wire.ndim != 1 or np.ndim(vector) != 1:
        message = f"an embedding has one dimension, this one has shape {np.shape(vector)}"
        raise ValueError(message)
    if not np.logical_and.reduce(np.isfinite(wire)):
        message = "an embedding must be finite, this one holds a NaN or an infinity"
        raise ValueError(message)
    return wire
