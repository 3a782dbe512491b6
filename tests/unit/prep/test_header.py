from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from legit_embedding.errors import CudaForbiddenError, TaskError
from legit_embedding.prep import header
from legit_embedding.prep.header import FORMATS, check_pixels, open_image, refusing_bad_data
from tests.images import encoded

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 64_000_000


def refusal(data: bytes, limit: int = LIMIT) -> TaskError:
    with pytest.raises(TaskError) as caught:
        open_image(data, limit)
    assert len(caught.value.detail.splitlines()) == 1
    return caught.value


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims any size, with next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_is_opened_and_not_yet_decoded(file_format: str) -> None:
    header._register_heif()
    image = open_image(encoded(Image.new("RGB", (5, 3)), file_format), LIMIT)
    assert image.size == (5, 3)
    assert image.format == file_format
    assert image.convert("RGB").size == (5, 3)


@pytest.mark.parametrize("file_format", ["ICO", "EPS", "PCX", "TGA", "PDF"])
def test_other_formats_are_not_even_tried(file_format: str) -> None:
    error = refusal(encoded(Image.new("RGB", (16, 16)), file_format))
    assert (error.code, error.transient) == ("undecodable", False)
    assert "JPEG" in error.detail


@pytest.mark.parametrize("data", [b"", b"\0", b"not an image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"])
def test_what_is_no_image_is_undecodable(data: bytes) -> None:
    assert refusal(data).code == "undecodable"


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (0, 0)])
def test_an_image_without_pixels_is_undecodable(size: tuple[int, int]) -> None:
    assert refusal(png_header(*size)).code == "undecodable"
    assert refusal(b"P6 %d %d 255\n" % size).code == "undecodable"


@pytest.mark.parametrize("side", [8_001, 9_600, 13_400, 60_000, 2**31 - 1])
def test_too_many_pixels_are_refused_from_the_header(side: int) -> None:
    # 9,600 squared is beyond where Pillow warns, and 13,400 squared beyond where it fails.
    error = refusal(png_header(side, side))
    assert (error.code, error.transient) == ("too_large", False)
    assert f"{side} by {side} pixels" in error.detail
    assert str(LIMIT) in error.detail


@pytest.fixture
def pillows_limit() -> Callable[[], int | None]:
    """Restores Pillow's own limit, and tells it."""
    return lambda: Image.MAX_IMAGE_PIXELS


@pytest.fixture(autouse=True)
def _restored_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def test_pillows_own_limit_does_not_bite_below_ours(pillows_limit: Callable[[], int | None]) -> None:
    before = pillows_limit()
    assert open_image(png_header(8000, 8000), LIMIT).size == (8000, 8000)
    assert pillows_limit() == before, "it goes on protecting other tasks"
    image = open_image(png_header(20_000, 20_000), 500_000_000)
    assert image.size == (20_000, 20_000)
    Image.MAX_IMAGE_PIXELS = None
    assert open_image(png_header(20_000, 20_000), 500_000_000).size == (20_000, 20_000)
    assert pillows_limit() is None


def overgrown_gif(side: int) -> bytes:
    """A GIF whose frame claims to be larger than its canvas."""
    canvas, frame = struct.pack("<HH", 4, 4), struct.pack("<HH", side, side)
    return encoded(Image.new("P", (4, 4)), "GIF").replace(b"," + bytes(4) + canvas, b"," + bytes(4) + frame)


def test_a_gif_whose_frame_outgrows_its_canvas_is_measured_whole() -> None:
    assert open_image(overgrown_gif(10), LIMIT).size == (10, 10)
    assert refusal(overgrown_gif(10), 99).code == "too_large"
    # This one Pillow itself measures while it reads the header.
    assert refusal(overgrown_gif(15_000)).code == "too_large"
    assert open_image(overgrown_gif(15_000), 500_000_000).size == (15_000, 15_000)


def test_exactly_the_limit_is_enough() -> None:
    check_pixels(10, 10, 100)
    with pytest.raises(TaskError, match="too_large"):
        check_pixels(10, 10, 99)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError("truncated\nfile"), "undecodable"),
        (KeyError("x"), "undecodable"),
        (RecursionError(), "undecodable"),
        (MemoryError(), "too_large"),
        (Image.DecompressionBombError("large"), "too_large"),
        (TaskError("expired", "too late"), "expired"),
    ],
)
def test_whatever_a_decoder_raises_is_a_task_error(error: Exception, code: str) -> None:
    with pytest.raises(TaskError) as caught, refusing_bad_data():
        raise error
    assert caught.value.code == code
    assert "\n" not in caught.value.detail


def test_a_violation_of_law_1_is_not_taken_for_bad_data() -> None:
    with pytest.raises(CudaForbiddenError), refusing_bad_data():
        raise CudaForbiddenError("no")


def test_the_callers_bytes_are_left_alone() -> None:
    data = encoded(Image.new("RGB", (5, 3)), "PNG")
    copy = bytes(bytearray(data))
    open_image(data, LIMIT).load()
    assert data == copy
    assert isinstance(open_image(data, LIMIT).fp, io.BytesIO)
