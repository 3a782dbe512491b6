"""Image files to pixels: by the quickest decoder that sees the same image, and never for longer than is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL.ImageFile import ImageFile

from legit_embedding.prep.images.header import open_image
from legit_embedding.prep.images.jpeg import complete_jpeg, decode_jpeg, is_quick
from legit_embedding.prep.images.opening import load
from legit_embedding.prep.images.png import SIGNATURE, pixels_only
from legit_embedding.prep.images.slow_decoders import DECODERS

if TYPE_CHECKING:
    import torch
    from PIL import Image


def opened(data: bytes, max_pixels: int) -> tuple[bytes, Image.Image, bool]:
    """The file, opened; or decoded, by a process that can be ended, where its size does not bound the work."""
    if data.startswith(SIGNATURE):
        pixels = pixels_only(data)
        if pixels is not None:
            return pixels, open_image(pixels, max_pixels), False
    elif is_quick(data) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP"):
        return data, open_image(data, max_pixels), False
    image, repaired = DECODERS.decode(data, max_pixels)
    return data, image, repaired


def jpeg_pixels(image: Image.Image, data: bytes) -> tuple[torch.Tensor | None, bool]:
    """The pixels of a JPEG by the quick decoder, uint8 ``[1 or 3, H, W]``, if it reads them; and whether completed."""
    if not (isinstance(image, ImageFile) and image.format in {"JPEG", "MPO"}):
        return None, False
    pixels = decode_jpeg(data, *image.size)
    if pixels is not None:
        return pixels, False
    pixels = complete_jpeg(data, *image.size)
    return pixels, pixels is not None


def loaded(image: Image.Image, data: bytes, max_pixels: int) -> tuple[Image.Image, bool]:
    """The image with its pixels, by Pillow; and whether it was completed."""
    return load(image, data, max_pixels) if isinstance(image, ImageFile) else (image, False)
