from __future__ import annotations

import io
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skimage
import torch
from open_clip.transform import image_transform
from PIL import Image

from legit_embedding.errors import CudaForbiddenError, TaskError
from legit_embedding.prep.cuda_guard import cpu_only
from legit_embedding.prep.images import decoding as module
from legit_embedding.prep.images import jpeg
from legit_embedding.prep.images.image import SAFE_SCALE, ImageTransform
from tests.images import PHOTOS, encoded, photo, variety

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

LIMIT = 64_000_000
SIZE = (224, 224)
DRAW = np.random.default_rng(3)

SHIPPED = sorted(
    path for path in (Path(skimage.__file__).parent / "data").iterdir() if path.suffix in {".jpg", ".png", ".gif"}
)


def alpha(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def oddities() -> dict[str, bytes]:
    """Small files of every kind that a decoder treats in its own way."""
    image = photo("astronaut.png").resize((90, 70))
    exif = Image.Exif()
    exif[0x0112] = 6
    palette, sixteen = image.convert("P"), Image.fromarray(DRAW.integers(0, 65536, (70, 90), np.uint16))
    return {
        "grey.jpg": encoded(image.convert("L"), "JPEG"),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "rgb.jpg": encoded(image, "JPEG", keep_rgb=True),
        "exif.jpg": encoded(image, "JPEG", exif=exif),
        "two.mpo": encoded(image, "MPO", save_all=True, append_images=[image.rotate(90)]),
        "palette.png": encoded(palette, "PNG"),
        "palette-key.png": encoded(palette, "PNG", transparency=5),
        "palette-alpha.png": encoded(palette, "PNG", transparency=bytes(range(256))),
        "grey-key.png": encoded(image.convert("L"), "PNG", transparency=90),
        "rgb-key.png": encoded(image, "PNG", transparency=(1, 2, 3)),
        "rgba.png": encoded(alpha(image), "PNG"),
        "la.png": encoded(image.convert("LA"), "PNG"),
        "bits.png": encoded(image.convert("1"), "PNG"),
        "sixteen.png": encoded(sixteen, "PNG"),
        "interlaced.gif": encoded(palette, "GIF", interlace=1),
        "moving.gif": encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(90)], transparency=3),
        "moving.webp": encoded(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        "alpha.webp": encoded(alpha(image), "WEBP"),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "photo.avif": encoded(image, "AVIF"),
        "photo.jp2": encoded(image, "JPEG2000"),
        "deep.tiff": encoded(sixteen, "TIFF"),
        "cmyk.tiff": encoded(image.convert("CMYK"), "TIFF"),
        "float.tiff": encoded(image.convert("F"), "TIFF"),
        "lab.tiff": encoded(image.convert("LAB"), "TIFF"),
        "palette.bmp": encoded(palette, "BMP"),
        "grey.ppm": encoded(image.convert("L"), "PPM"),
    }


ODDITIES = oddities()
DEEP = {"sixteen.png", "deep.tiff", "float.tiff"}
"""What open_clip clips, and we scale unless `exact`: `test_hostile.py` has their tests."""
SIZES = [(640, 480), (481, 641), (1, 1), (2, 300), (300, 3), (31, 17), (224, 224), (225, 223), (448, 448), (1000, 449)]


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def reference(data: bytes, size: tuple[int, int] = SIZE, **settings: Any) -> NDArray[np.int16]:
    """open_clip's own pixels, 0 to 255."""
    transform = image_transform(size, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), **settings)
    image = Image.open(io.BytesIO(data))
    if image.mode == "P":  # Pillow warns of what changes nothing here
        image.load()
        image.info.pop("transparency", None)
    return np.rint(transform(image).numpy() * 255).astype(np.int16)


def deviation(data: bytes, size: tuple[int, int] = SIZE, *, exact: bool = False, **settings: Any) -> NDArray[np.int16]:
    pixels = ImageTransform(size, exact=exact, **settings)(data, LIMIT)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, *size)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable, "torch warns of others"
    return np.abs(pixels - reference(data, size, **settings))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", ODDITIES)
def test_every_kind_of_file_is_seen_as_open_clip_sees_it(name: str, exact: bool) -> None:
    if name in DEEP and not exact:
        return
    assert deviation(ODDITIES[name], exact=exact).max() == 0
    assert deviation(ODDITIES[name], (24, 24), exact=exact).max() <= (0 if exact else 1)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_shape_is_seen_as_open_clip_sees_it(size: tuple[int, int], exact: bool) -> None:
    for name in PHOTOS[:2]:
        data = encoded(photo(name).resize(size), "JPEG", quality=85)
        assert deviation(data, exact=exact).max() <= (0 if exact else 1)


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        ((32, 32), {}),
        ((32, 32), {"interpolation": "bilinear"}),
        ((32, 48), {}),
        ((48, 32), {"interpolation": "bilinear"}),
        ((32, 32), {"resize_mode": "squash"}),
        ((32, 48), {"resize_mode": "squash", "interpolation": "bilinear"}),
        ((32, 32), {"resize_mode": "longest"}),
        ((31, 48), {"resize_mode": "longest", "fill_color": 127}),
        ((48, 31), {"resize_mode": "longest", "interpolation": "bilinear", "fill_color": 255}),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_every_setting_means_what_it_means_to_open_clip(
    size: tuple[int, int], settings: dict[str, Any], exact: bool
) -> None:
    files = [encoded(photo(PHOTOS[0]).resize(shape), "PNG") for shape in ((301, 200), (200, 301), (97, 97), (20, 9))]
    for data in [*files, *(data for name, data in ODDITIES.items() if exact or name not in DEEP)]:
        assert deviation(data, size, exact=exact, **settings).max() <= (0 if exact else 1)


def test_real_photos_are_within_one_but_for_a_few_values_in_a_million() -> None:
    values = beyond = 0
    for path in SHIPPED:
        data = path.read_bytes()
        assert deviation(data, exact=True).max() == 0
        difference = deviation(data)
        assert difference.max() <= 2
        values, beyond = values + difference.size, beyond + int((difference > 1).sum())
    assert values > 4_000_000
    assert beyond / values < 1e-5


def test_no_image_is_further_off_than_two() -> None:
    rows, columns = DRAW.integers(0, 128, (700, 1, 1)), DRAW.integers(0, 128, (1, 600, 3))
    ramp = np.broadcast_to(np.linspace(0, 255, 900), (900, 900)).astype(np.uint8)
    for array in (
        DRAW.integers(0, 256, (500, 700, 3), np.uint8),
        (DRAW.integers(0, 2, (900, 460, 3)) * 255).astype(np.uint8),
        (rows + columns).astype(np.uint8),
        ramp,
        ramp.T.copy(),
    ):
        assert deviation(encoded(Image.fromarray(array), "BMP")).max() <= 2


def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes which way each image takes."""
    taken: list[str] = []
    for name in ("_fast", "_exact"):
        original = getattr(ImageTransform, name)
        monkeypatch.setattr(
            ImageTransform, name, lambda *args, name=name, original=original: (taken.append(name), original(*args))[1]
        )
    return taken


def test_the_fast_way_is_taken_where_it_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = ways(monkeypatch)
    fast, exact = ImageTransform(SIZE), ImageTransform(SIZE, exact=True)
    large, small = (encoded(photo(PHOTOS[0]).resize((side, side)), "JPEG") for side in (448, 447))
    for transform, data in ((fast, large), (fast, small), (exact, large), (fast, ODDITIES["cmyk.jpg"])):
        transform(data, LIMIT)
    assert SAFE_SCALE == 2
    assert taken == ["_fast", "_exact", "_exact", "_exact"]


def test_the_fast_decoder_is_used_and_can_be_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photo(PHOTOS[0]), "JPEG")
    decoded: list[bool] = []
    original = jpeg.decode_jpeg
    monkeypatch.setattr(module, "decode_jpeg", lambda *args: (decoded.append(True), original(*args))[1])
    with_decoder = ImageTransform(SIZE)(data, LIMIT)
    assert decoded
    monkeypatch.setattr(jpeg, "_decoder", lambda: None)
    assert np.array_equal(ImageTransform(SIZE)(data, LIMIT), with_decoder)


def refusal(data: bytes, limit: int = LIMIT, **settings: Any) -> TaskError:
    with pytest.raises(TaskError) as caught:
        ImageTransform(SIZE, **settings)(data, limit)
    assert len(caught.value.detail.splitlines()) == 1
    return caught.value


@pytest.mark.parametrize("name", ["photo.jpg", *ODDITIES])
def test_a_truncated_file_is_undecodable(name: str) -> None:
    data = ODDITIES.get(name) or encoded(photo(PHOTOS[0]), "JPEG")
    for exact in (True, False):
        assert refusal(data[: len(data) // 3], exact=exact).code == "undecodable"


def test_pixels_are_counted_before_and_after() -> None:
    data = encoded(photo(PHOTOS[0]).resize((500, 400)), "JPEG")
    assert refusal(data, 199_999).code == "too_large"
    assert ImageTransform(SIZE)(data, 200_000).shape == (3, *SIZE)
    # A strip of 60,000 pixels would become one of 224 by 13,440,000.
    strip = refusal(encoded(Image.new("L", (60_000, 1)), "PNG"))
    assert strip.code == "too_large"
    assert "13440000 by 224" in strip.detail


def damaged() -> Iterator[bytes]:
    draw = random.Random(6)
    big = encoded(photo(PHOTOS[0]).resize((500, 460)), "JPEG", quality=40)
    for data in [*ODDITIES.values(), big]:
        for _ in range(12):
            yield data[: draw.randrange(len(data))]
            flipped = bytearray(data)
            for _ in range(draw.choice([1, 3, 30])):
                flipped[draw.randrange(draw.choice([64, len(data)]))] ^= 1 << draw.randrange(8)
            yield bytes(flipped)
        yield data[:20] + draw.randbytes(300)
    for _ in range(50):
        yield draw.randbytes(draw.randrange(300))


@pytest.mark.filterwarnings("ignore")  # Pillow's words on damaged files
@pytest.mark.parametrize("exact", [True, False])
def test_damaged_files_are_decoded_or_refused_and_nothing_else(exact: bool) -> None:
    transform = ImageTransform(SIZE, exact=exact)
    codes = {"decoded": 0, "undecodable": 0, "too_large": 0}
    for data in damaged():
        try:
            transform(data, 1_000_000)
        except TaskError as error:
            codes[error.code] += 1
        else:
            codes["decoded"] += 1
    assert codes["undecodable"] > 100
    assert codes["decoded"] > 100


def test_one_transform_serves_many_threads() -> None:
    transform = ImageTransform(SIZE)
    files = list(variety().values())
    alone = [transform(data, LIMIT) for data in files]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda data: transform(data, LIMIT), files * 2))
    for one, other in zip(alone * 2, together, strict=True):
        assert np.array_equal(one, other)


def test_a_guarded_thread_can_transform() -> None:
    data = encoded(photo(PHOTOS[0]), "JPEG")
    with cpu_only():
        pixels = ImageTransform(SIZE)(data, LIMIT)
    assert np.array_equal(pixels, ImageTransform(SIZE)(data, LIMIT))


def test_a_violation_of_law_1_is_no_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "decode_jpeg", lambda *args: torch.ones(1).cuda())
    with cpu_only(), pytest.raises(CudaForbiddenError):
        ImageTransform(SIZE)(encoded(photo(PHOTOS[0]), "JPEG"), LIMIT)


@pytest.mark.parametrize("transform", [ImageTransform(SIZE), ImageTransform(SIZE, exact=True)], ids=["fast", "exact"])
def test_the_pixels_are_the_callers_own(transform: Callable[[bytes, int], NDArray[np.uint8]]) -> None:
    data = encoded(photo(PHOTOS[0]), "JPEG")
    first = transform(data, LIMIT)
    first[:] = 0
    assert transform(data, LIMIT).any()
