"""JPEG files that end too early by a little: the same rule for every decoder.

A decoder fills what is missing with the last colour once the file is given an end marker. It does not say how much that
is. So the file is decoded twice, the second time with noise before the marker: the first row that differs is the first
one that is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

END = b"\xff\xd9"
_NOISE = b"\x5a\xa5\x3c\x91" * 64
_BLOCK = 16
_SHARE = 20
_SMALL_SHARE = 4


def tolerated_rows(height: int) -> int:
    """The most rows that may be missing: a twentieth, or one row of blocks, at most a quarter of a small image."""
    return max(height // _SHARE, min(_BLOCK, height // _SMALL_SHARE))


def ended(data: bytes) -> bytes:
    """The file with an end marker."""
    return data.rstrip(b"\xff") + END


def check_loss(data: bytes, decode: Callable[[bytes], NDArray[np.generic]]) -> None:
    """Refuse a JPEG without its end that lacks more than that and a few rows.

    Args:
        data: the file.
        decode: from a file to its pixels, ``[H, ...]``.

    Raises:
        TaskError: ``undecodable``.
    """
    pixels, with_noise = decode(ended(data)), decode(ended(data.rstrip(b"\xff") + _NOISE))
    height = len(pixels)
    differs = np.flatnonzero((pixels != with_noise).reshape(height, -1).any(axis=1))
    lost = height - int(differs[0]) if len(differs) else 0
    if lost > tolerated_rows(height):
        few = tolerated_rows(height)
        raise TaskError(
            "undecodable", f"the JPEG ends too early: {lost} of its {height} rows are missing, more than {few}"
        )
