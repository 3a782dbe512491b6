"""Real photos in many shapes and formats."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import skimage
from PIL import Image

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
SHAPES = (
    (640, 480),
    (480, 640),
    (224, 224),
    (300, 200),
    (97, 333),
    (1000, 60),
    (60, 1000),
    (512, 511),
    (31, 17),
    (800, 600),
)
_EXIF_ORIENTATION = 0x0112


def photo(name: str) -> Image.Image:
    """One of the freely licensed photos that scikit-image ships."""
    return Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@cache
def variety() -> dict[str, bytes]:
    """Forty files: ten shapes, each as JPEG, PNG, WebP and BMP, with the odd ones among them."""
    files = {}
    for number, shape in enumerate(SHAPES):
        image = photo(PHOTOS[number % len(PHOTOS)]).resize(shape)
        name = f"{shape[0]}x{shape[1]}"
        files[f"{name}.jpg"] = _jpeg(image, number)
        files[f"{name}.png"] = _png(image, number)
        files[f"{name}.webp"] = encoded(image, "WEBP", quality=85)
        files[f"{name}.bmp"] = encoded(image, "BMP")
    return files


def _jpeg(image: Image.Image, number: int) -> bytes:
    if number == 0:
        return encoded(image.convert("L"), "JPEG")
    if number == 1:
        return encoded(image.convert("CMYK"), "JPEG")
    if number == 2:
        exif = Image.Exif()
        exif[_EXIF_ORIENTATION] = 6
        return encoded(image, "JPEG", exif=exif)
    return encoded(image, "JPEG", quality=90, progressive=number % 2 == 0)


def _png(image: Image.Image, number: int) -> bytes:
    modes = ("P", "L", "RGBA", "LA")
    return encoded(image.convert(modes[number]) if number < len(modes) else image, "PNG")
