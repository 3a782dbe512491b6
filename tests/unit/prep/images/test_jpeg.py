from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from legit_embedding.prep.images import jpeg
from legit_embedding.prep.images.jpeg import decode_jpeg, frame_size
from tests.images import PHOTOS, encoded, photo

if TYPE_CHECKING:
    from numpy.typing import NDArray

PHOTO = photo(PHOTOS[0])


def by_pillow(data: bytes) -> NDArray[Any]:
    return np.atleast_3d(np.array(Image.open(io.BytesIO(data)))).transpose(2, 0, 1)


def decoded(data: bytes) -> NDArray[Any]:
    width, height = Image.open(io.BytesIO(data)).size
    pixels = decode_jpeg(data, width, height)
    assert pixels is not None
    return pixels.numpy()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_the_pixels_are_pillows(mode: str, progressive: bool, subsampling: str) -> None:
    for size in ((64, 48), (33, 65), (1, 1), (8, 7), (200, 1), (1, 200)):
        for quality in (30, 90):
            image = PHOTO.resize(size).convert(mode)
            options = {"subsampling": subsampling, "quality": quality, "progressive": progressive}
            data = encoded(image, "JPEG", **options)
            assert np.array_equal(decoded(data), by_pillow(data))


def test_oddly_made_files_are_the_same_too() -> None:
    plain = encoded(PHOTO, "JPEG", quality=80)
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (
        encoded(PHOTO, "JPEG", exif=exif),
        encoded(PHOTO, "JPEG", keep_rgb=True),
        encoded(PHOTO, "JPEG", restart_marker_rows=1),
        encoded(PHOTO, "JPEG", comment=b"x" * 60_000, icc_profile=b"y" * 200_000),
        encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO.resize((10, 10))]),
        plain + b"trailing garbage",
    ):
        assert np.array_equal(decoded(data), by_pillow(data))


def test_truncated_files_are_left_to_pillow() -> None:
    data = encoded(PHOTO, "JPEG")
    for length in (len(data) - 2, len(data) // 2, 700):
        assert decode_jpeg(data[:length], *PHOTO.size) is None


def test_a_header_that_can_be_read_in_two_ways_is_left_to_pillow() -> None:
    data = encoded(PHOTO, "JPEG")
    width, height = PHOTO.size
    start = data.index(b"\xff\xc0")
    frame = data[start : start + 19]
    huge = frame[:5] + b"\xff\xdc\xff\xdc" + frame[9:]
    assert decode_jpeg(data, width + 1, height) is None
    assert decode_jpeg(data[:start] + huge + data[start:], width, height) is None
    assert frame_size(data[:start] + huge + data[start:]) == (0xFFDC, 0xFFDC)
    for junk in (b"\0", b"\xff", b"\xff\xd0", b"\xff\x01", b"\xff\xd8", b"\xff\xda\x00\x02"):
        assert frame_size(data[:start] + junk + data[start:]) is None


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8" + b"\xff\xe0\x00\x00" * 5, b"x" * 100])
def test_no_jpeg_has_no_size(data: bytes) -> None:
    assert frame_size(data) is None
    assert decode_jpeg(data, 1, 1) is None


def test_without_the_decoder_everything_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "_decoder", lambda: None)
    assert decode_jpeg(encoded(PHOTO, "JPEG"), *PHOTO.size) is None
