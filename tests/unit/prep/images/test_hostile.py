from __future__ import annotations

import signal
import struct
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from PIL import Image

from legit_embedding.errors import TaskError
from legit_embedding.models.backend import Prepared
from legit_embedding.models.recipes import ImageRecipe
from legit_embedding.pipeline import prepare as work
from legit_embedding.pipeline.caller import OnOutcome
from legit_embedding.pipeline.job import Job
from legit_embedding.prep.images import header
from legit_embedding.prep.images import slow_decoders as slow
from legit_embedding.prep.images.decoder import REQUEST
from legit_embedding.prep.images.image import ImageTransform
from legit_embedding.prep.images.repair import tolerated_rows
from legit_embedding.prep.images.slow_decoders import DECODERS
from legit_embedding.prep.stage import MOST_STAND_INS, PrepStage, standing_aside
from legit_embedding.wire.messages import Address, Origin, TaskObject
from tests.images import PHOTOS, encoded, photo
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from legit_embedding.wire.messages import Result

LIMIT = 64_000_000
SIZE = (64, 64)
PHOTO = photo(PHOTOS[0])
JPEG = encoded(PHOTO, "JPEG")
ODD_MAXIMUM = b"P5 3000 2500 1021\n" + bytes(3000 * 2500 * 2)
BOTH = pytest.mark.parametrize(
    "transform", [ImageTransform(SIZE), ImageTransform(SIZE, exact=True)], ids=["fast", "exact"]
)


@pytest.fixture(autouse=True)
def _ended_decoders() -> Iterator[None]:
    yield
    DECODERS.close()


def refusal(transform: ImageTransform, data: bytes) -> TaskError:
    with pytest.raises(TaskError) as caught:
        transform.read(data, LIMIT)
    assert len(caught.value.detail.splitlines()) == 1
    return caught.value


def _ended(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def with_chunk(added: bytes) -> bytes:
    data = encoded(PHOTO, "PNG")
    return data[:33] + added + data[33:]


@BOTH
@pytest.mark.parametrize(
    "added",
    [
        chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1_200_000))),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(1_200_000))),
        chunk(b"tEXt", b"key\0value", crc=1),
    ],
    ids=["text", "profile", "checksum"],
)
def test_what_a_png_holds_beside_its_pixels_does_not_matter(transform: ImageTransform, added: bytes) -> None:
    assert np.array_equal(transform(with_chunk(added), LIMIT), transform(encoded(PHOTO, "PNG"), LIMIT))


def test_a_damaged_png_is_called_damaged() -> None:
    data = bytearray(encoded(PHOTO, "PNG"))
    data[29] ^= 1
    error = refusal(ImageTransform(SIZE), bytes(data))
    assert error.code == "undecodable"
    assert "IHDR" in error.detail


@BOTH
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_marker_is_completed(transform: ImageTransform, progressive: bool) -> None:
    whole = encoded(PHOTO, "JPEG", progressive=progressive)
    pixels, repaired = transform.read(whole[:-2], LIMIT)
    assert repaired
    assert np.array_equal(pixels, transform(whole, LIMIT))
    assert not transform.read(whole, LIMIT)[1]
    assert ImageRecipe(transform.read, SIZE).image(whole[:-2], LIMIT).repaired


@BOTH
def test_a_few_lost_rows_are_tolerated_and_more_are_not(transform: ImageTransform) -> None:
    assert transform.read(JPEG[:-400], LIMIT)[1]
    for length in (len(JPEG) // 2, len(JPEG) * 3 // 4):
        error = refusal(transform, JPEG[:length])
        assert error.code == "undecodable"
        assert f"more than {tolerated_rows(PHOTO.height)}" in error.detail


@pytest.mark.parametrize(("height", "rows"), [(1, 0), (8, 2), (64, 16), (320, 16), (1000, 50)])
def test_how_many_rows_may_be_lost(height: int, rows: int) -> None:
    assert tolerated_rows(height) == rows


@pytest.mark.parametrize("deep", ["I;16", "F", "far"])
def test_deep_grey_images_are_scaled_unless_exact(deep: str) -> None:
    grey = np.asarray(PHOTO.convert("L"))
    values: Any = {"I;16": grey.astype(np.uint16) * 257, "F": grey.astype(np.float32) / 255}.get(
        deep, np.float32(grey) * 1000 - 5000
    )
    data = encoded(Image.fromarray(values), "TIFF")
    plain = ImageTransform(SIZE)(encoded(PHOTO.convert("L"), "TIFF"), LIMIT).astype(int)
    assert np.abs(ImageTransform(SIZE)(data, LIMIT) - plain).max() <= 1
    assert np.abs(ImageTransform(SIZE, exact=True)(data, LIMIT) - plain).max() > 50


@pytest.mark.parametrize(
    "data",
    [
        ODD_MAXIMUM,
        JPEG[:2] + b"\xff" * 8_000_000 + JPEG[2:],
    ],
    ids=["odd maximum", "fill bytes"],
)
def test_an_image_that_takes_too_long_is_too_large(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DECODERS, "budget_s", 0.3)
    error = refusal(ImageTransform(SIZE), data)
    assert (error.code, error.transient) == ("too_large", False)
    assert "fetch.decode_s" in error.detail
    monkeypatch.setattr(DECODERS, "budget_s", 30.0)
    assert ImageTransform(SIZE)(encoded(PHOTO, "GIF"), LIMIT).any(), "the next image has a process of its own"


def test_an_innocent_image_waits_while_every_decoder_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    release, answers, settled = threading.Event(), {}, threading.Event()
    names = [f"image-{number}" for number in range(16)]

    def held(data: bytes, max_pixels: int) -> tuple[Image.Image, bool]:
        release.wait(30)
        return PHOTO, False

    class Refused:
        def put(self, job: Job, result: Result) -> None:
            answers[job.address.task_id] = result.outcome

    class Engine:
        def submit(self, delivery: Job) -> None:
            answers[delivery.address.task_id] = delivery.prepared
            if len(answers) == len(names) + 1:
                settled.set()

    def retry(model: str, job: Job, delay_s: float) -> None:
        stage.submit_later(model, job, delay_s)

    monkeypatch.setattr(work, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(slow, "_WAIT_S", 30.0)
    monkeypatch.setattr(DECODERS, "_decoded", held)
    reads: list[str] = []
    slow_image = encoded(PHOTO.resize((16, 16)), "GIF")

    class Content:
        def read(self, task: TaskObject) -> bytes:
            reads.append(task.task_id or "")
            return JPEG if task.task_id == "quick" else slow_image

    preparation = work.Preparation(
        cast("Any", Content()),
        cast("Any", None),
        lambda model: ImageRecipe(ImageTransform(SIZE).read, SIZE),
        cast("Any", Engine()),
        retry,
        LIMIT,
    )
    stage: PrepStage[Job] = PrepStage(preparation, lambda model: True, 1, lambda jobs, error: None, lambda model: 1)
    stage.start()
    for name in [*names, "quick"]:
        job = Job(Origin("celery", name), OnOutcome(lambda outcome: None), cast("Any", Refused()), cast("Any", None))
        job.address, job.model, job.kind = Address(name), "m", "image"
        job.take(TaskObject(task_id=name, image_url="http://example.com/"))
        stage.submit("m", job)
    wait_for(lambda: "quick" in answers, 30, "the image that needs no such decoder")
    assert set(answers) == {"quick"}
    wait_for(lambda: stage.waiting() == len(names) - MOST_STAND_INS, 30, "the others to wait without a thread")
    assert len(reads) == len(names) + 1, "nothing is downloaded again while every decoder is busy"
    release.set()
    assert settled.wait(30)
    assert all(isinstance(answer, Prepared) for answer in answers.values())
    assert stage.close(30)


def test_an_image_is_tried_again_by_another_process_when_one_has_ended() -> None:
    data = encoded(PHOTO, "GIF")
    assert ImageTransform(SIZE)(data, LIMIT).any()
    (process,) = DECODERS._idle
    process.kill()
    process.wait()
    assert ImageTransform(SIZE)(data, LIMIT).any(), "one that ended while nobody used it is not asked"
    (process,) = DECODERS._idle
    process.poll = lambda: None  # type: ignore[method-assign] - as if it ended just now
    process.kill()
    wait_for(lambda: _ended(process.pid), 30, "its end")
    error = refusal(ImageTransform(SIZE), data)
    assert (error.code, error.transient) == ("undecodable", True)


def test_a_decoder_ends_by_itself_when_the_worker_does_not_end_it() -> None:
    process = slow._started()
    process.stdin.write(REQUEST.pack(len(ODD_MAXIMUM), LIMIT, 0.1) + ODD_MAXIMUM)  # type: ignore[union-attr]
    process.stdin.flush()  # type: ignore[union-attr]
    assert process.wait(30) == -signal.SIGALRM
    slow._end(process)


def test_many_scans_are_left_to_a_process_that_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(slow.SlowDecoders, "decode", lambda self, data, limit: (asked.append(data), (PHOTO, False))[1])
    ImageTransform(SIZE)(JPEG, LIMIT)
    assert not asked
    ImageTransform(SIZE)(JPEG[:-2] + b"\xff\xda" * 101 + JPEG[-2:], LIMIT)
    assert len(asked) == 1


def test_a_thread_that_stands_aside_is_replaced() -> None:
    entered, release, done = threading.Event(), threading.Event(), threading.Event()

    def work(model: str, jobs: list[str]) -> None:
        if model == "held":
            with standing_aside():
                entered.set()
                release.wait(30)
        else:
            done.set()

    stage: PrepStage[str] = PrepStage(work, lambda model: True, 1, lambda jobs, error: None)
    stage.start()
    stage.submit("held", "a")
    assert entered.wait(30)
    stage.submit("other", "b")
    assert done.wait(30)
    release.set()
    assert stage.close(30)


def heic() -> bytes:
    header._register_heif()
    return encoded(PHOTO, "HEIF")


def test_heic_is_read_with_its_extra() -> None:
    assert ImageTransform(SIZE)(heic(), LIMIT).any()


def test_without_the_extra_heic_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic()
    monkeypatch.setattr(header, "_register_heif", lambda: None)
    monkeypatch.delitem(Image.OPEN, "HEIF")
    with pytest.raises(TaskError, match=r"legit-embedding\[heif\]"):
        header.open_image(data, LIMIT)
