"""JPEG files straight into tensors: a little faster than by way of Pillow, with the same pixels."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

from legit_embedding.prep.images.repair import END, check_loss, ended

if TYPE_CHECKING:
    from collections.abc import Callable

_AS_IT_IS = 0
_START = b"\xff\xd8"
_MARK = 0xFF
_SEGMENTS = frozenset(range(0xC0, 0xFF)) - frozenset(range(0xD0, 0xDB))
"""Markers that a length follows, but for the start of the scan."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HEADER = 9
_SCAN = 0xDA
MOST_SEGMENTS = 1000
MOST_SCANS = 100


def decode_jpeg(data: bytes, width: int, height: int) -> torch.Tensor | None:
    """The pixels, uint8 ``[1 or 3, H, W]``; None where this decoder does not see the same image as Pillow.

    Args:
        data: the file.
        width: as Pillow read it from the header.
        height: likewise.
    """
    decoder = _decoder()
    # The decoder allocates by its own reading of the header, so that must not be open to interpretation.
    if decoder is None or frame_size(data) != (width, height):
        return None
    try:
        pixels = _decoded(data)
    except RuntimeError:  # truncated, or of a kind that it does not read
        return None
    return pixels if pixels.shape[1:] == (height, width) else None


def frame_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the first frame header of a JPEG that is flawless up to there."""
    if not data.startswith(_START):
        return None
    at = len(_START)
    for _ in range(MOST_SEGMENTS):
        head = data[at : at + _HEADER]
        if len(head) < _HEADER or head[0] != _MARK or head[1] not in _SEGMENTS:
            break
        if head[1] in _FRAMES:
            return int.from_bytes(head[7:9]), int.from_bytes(head[5:7])
        at += 2 + int.from_bytes(head[2:4])
    return None


def is_quick(data: bytes) -> bool:
    """True if the work that a JPEG makes is bounded by its size: few segments, no filling between them, few scans."""
    at, frames = len(_START), 0
    for _ in range(MOST_SEGMENTS):
        head = data[at : at + 4]
        if len(head) < 4 or head[0] != _MARK:  # noqa: PLR2004
            return False
        if head[1] == _SCAN:
            return frames == 1 and data.count(bytes((_MARK, _SCAN))) <= MOST_SCANS
        if head[1] not in _SEGMENTS:
            return False
        frames += head[1] in _FRAMES
        at += 2 + int.from_bytes(head[2:4])
    return False


def complete_jpeg(data: bytes, width: int, height: int) -> torch.Tensor | None:
    """As `decode_jpeg`, of a file that lacks its end.

    Raises:
        TaskError: ``undecodable``: it lacks more than is tolerated.
    """
    if data.rstrip(b"\xff").endswith(END) or decode_jpeg(ended(data), width, height) is None:
        return None
    check_loss(data, lambda file: _decoded(file).permute(1, 2, 0).numpy())
    return decode_jpeg(ended(data), width, height)


def _decoded(data: bytes) -> torch.Tensor:
    decoder = _decoder()
    if decoder is None:
        raise RuntimeError("this build of torchvision has no decoder")
    return decoder(torch.frombuffer(bytearray(data), dtype=torch.uint8), _AS_IT_IS)


@cache
def _decoder() -> Callable[[torch.Tensor, int], torch.Tensor] | None:
    """The operator below torchvision's deprecated functions; None in a build that has none."""
    try:
        import torchvision.io  # noqa: F401 - registers the operator

        decoder: Callable[[torch.Tensor, int], torch.Tensor] = torch.ops.image.decode_jpeg
    except (ImportError, AttributeError):
        return None
    return decoder
