"""An image file, opened but not yet decoded: what it is and how large, before anything is spent on it."""

from __future__ import annotations

import io
import struct
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from PIL import Image

from legit_embedding.errors import CudaForbiddenError, TaskError, in_one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.ImageFile import ImageFile

# Not everything that Pillow knows: EPS would start Ghostscript, and a small icon can hold a PNG of any size.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "HEIF")
_PREFIX = 16
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
# Not this format after all, says its plugin.
_NOT_THIS = (SyntaxError, IndexError, TypeError, struct.error)


def open_image(data: bytes, max_pixels: int) -> ImageFile:
    """Read the header of an image file.

    Raises:
        TaskError: ``undecodable``, or ``too_large`` beyond `max_pixels`.
    """
    _raise_pillows_limit(max_pixels)
    with refusing_bad_data():
        image = _opened(data)
        if image is None:
            if _is_heif(data):
                extra = "pip install 'legit-embedding[heif]'"
                raise TaskError("undecodable", f"this is a HEIC image, which is read where the extra is there: {extra}")
            expected = ", ".join(FORMATS)
            raise TaskError("undecodable", f"this is no image in a format that is read here ({expected})")
        width, height = image.size
        if width < 1 or height < 1:
            raise TaskError("undecodable", f"the image has no pixels: {width} by {height}")
        check_pixels(width, height, max_pixels)
        return image


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse what is too large to handle.

    Raises:
        TaskError: ``too_large``.
    """
    if width * height > max_pixels:
        detail = f"the image has {width} by {height} pixels, more than {max_pixels} (fetch.max_pixels)"
        raise TaskError("too_large", detail)


@contextmanager
def refusing_bad_data() -> Iterator[None]:
    """Turn whatever a decoder raises at bad data into a `TaskError`; decoders raise anything."""
    try:
        yield
    except (TaskError, CudaForbiddenError):
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TaskError("too_large", f"the image takes too many pixels to decode: {in_one_line(error)}") from error
    except Exception as error:
        raise TaskError("undecodable", f"the image cannot be decoded: {in_one_line(error)}") from error


def _opened(data: bytes) -> ImageFile | None:
    """As `Image.open` does it, without its warning about sizes: those are judged here."""
    prefix = data[:_PREFIX]
    failure: Exception | None = None
    if _is_heif(data):
        _register_heif()
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None or accept is None or accept(prefix) is not True:
            continue
        try:
            return factory(io.BytesIO(data), "")
        except _NOT_THIS as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return None


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


@cache
def _register_heif() -> None:
    """Make HEIC images known to Pillow where the extra is installed."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener(thumbnails=False)


def _raise_pillows_limit(max_pixels: int) -> None:
    # The limit is the process's: it is left to protect other tasks, and raised where the settings allow more.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and limit < max_pixels:
        Image.MAX_IMAGE_PIXELS = max_pixels


Image.init()
