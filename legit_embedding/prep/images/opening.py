"""Opening an image file as it is decoded, in this process or in a decoder process: no torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from legit_embedding.errors import TaskError
from legit_embedding.prep.images.header import open_image
from legit_embedding.prep.images.repair import check_loss, ended

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_JPEG = frozenset({"JPEG", "MPO"})
_DEEP = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
_BRIGHTEST, _DEEPEST = 255, 65535


def load(image: ImageFile, data: bytes, max_pixels: int) -> tuple[ImageFile, bool]:
    """Decode an opened image; a JPEG that lacks only its end is completed, and the second value says so."""
    try:
        image.load()
    except OSError:
        if image.format not in _JPEG or data.rstrip(b"\xff").endswith(b"\xff\xd9"):
            raise
        check_loss(data, lambda file: np.asarray(open_image(file, max_pixels)))
        image = open_image(ended(data), max_pixels)
        image.load()
        return image, True
    return image, False


def eight_bit(image: Image.Image) -> Image.Image:
    """Bring grey values of more than 8 bits, or floating point ones, to 0 to 255; other images stay as they are."""
    if image.mode not in _DEEP:
        return image
    values = np.asarray(image).astype(np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = _range(values, whole=image.mode != "F", sixteen=image.mode.startswith("I;16"))
    scaled = (values - low) * np.float32(_BRIGHTEST / (high - low))
    return Image.fromarray(np.rint(np.clip(scaled, 0, _BRIGHTEST)).astype(np.uint8))


def _range(values: np.ndarray, *, whole: bool, sixteen: bool) -> tuple[float, float]:
    """The values of black and white: the range of the type where that is plain, else that of the values."""
    least, most = float(values.min()), float(values.max())
    if least >= 0:
        if sixteen:
            return 0.0, _DEEPEST
        if not whole and most <= 1:
            return 0.0, 1.0
        if most <= _BRIGHTEST:
            return 0.0, _BRIGHTEST
        if whole and most <= _DEEPEST:
            return 0.0, _DEEPEST
    return least, max(most, least + 1)


def packed(image: Image.Image) -> dict[str, object]:
    """Everything of a decoded image but its bytes, for JSON."""
    palette = image.palette
    return {
        "mode": image.mode,
        "size": image.size,
        "format": getattr(image, "format", None),
        "palette": [palette.mode, image.getpalette(palette.mode)] if image.mode in {"P", "PA"} and palette else None,
    }


def unpacked(fields: dict[str, object], data: bytes) -> Image.Image:
    """The decoded image again."""
    mode, size, palette = fields["mode"], fields["size"], fields["palette"]
    if not (isinstance(mode, str) and isinstance(size, list)):
        raise TaskError("undecodable", "the decoder's answer cannot be read")
    image = Image.frombytes(mode, tuple(size), data)
    if isinstance(palette, list):
        image.putpalette(palette[1], palette[0])
    return image
