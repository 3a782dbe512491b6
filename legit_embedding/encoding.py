"""The encoding of vectors on streams."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENCODING = "base64_fp32"
_WIRE_DTYPE = np.dtype("<f4")


def encode_embedding(vector: NDArray[np.floating]) -> str:
    """Encode a vector as padded base64 of its little-endian float32 bytes.

    Args:
        vector: shape ``[dim]``, any float dtype.

    Raises:
        ValueError: the vector is not one-dimensional, or contains NaN or infinity (in float32).
    """
    wire = _on_the_wire(vector)
    if wire.ndim != 1:
        message = f"an embedding has one dimension, this one has shape {wire.shape}"
        raise ValueError(message)
    if not np.logical_and.reduce(np.isfinite(wire)):
        message = "an embedding must be finite, this one holds a NaN or an infinity"
        raise ValueError(message)
    return encode_finite(wire)


def encode_finite(vector: NDArray[np.float32]) -> str:
    """Encode a vector that is already validated: float32, shape ``[dim]``, finite."""
    return binascii.b2a_base64(np.ascontiguousarray(vector, _WIRE_DTYPE).data, newline=False).decode("ascii")


def decode_embedding(text: str) -> NDArray[np.float32]:
    """Decode the output of `encode_embedding`: float32, shape ``[dim]``, read-only.

    Raises:
        ValueError: the text is not base64, or not a whole number of float32 values.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), dtype=_WIRE_DTYPE)


def _on_the_wire(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    if vector.dtype == _WIRE_DTYPE:
        return np.ascontiguousarray(vector)
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are rejected
        return np.ascontiguousarray(vector, dtype=_WIRE_DTYPE)
