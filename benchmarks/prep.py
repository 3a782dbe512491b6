"""Preparation: images/s a core against open_clip's own transform, its scaling over threads, and tokenised texts/s.

A core's speed is images over processor seconds, so that other work on the machine counts for little; the two sides
take turns, a few images each, so that each has the caches to itself as it has in its worker. open_clip's side is its
transform as it comes, normalisation included, on a file that Pillow opens; ours leaves the normalisation to the device.
The scaling is wall time through the worker's own prep threads.

    python -m benchmarks.prep
"""

from __future__ import annotations

import io
import os
import statistics
import threading
import time
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from open_clip.transform import image_transform
from PIL import Image

from benchmarks import minilm
from benchmarks.report import arguments, show
from legit_embedding.models.transformers import TransformersModel
from legit_embedding.prep.cpus import available_cpus, keep_to_one_core
from legit_embedding.prep.images.image import ImageTransform
from legit_embedding.prep.stage import PrepStage
from tests.images import PHOTOS, encoded, photo
from tests.texts import texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIZE = (224, 224)
SHAPES = ((640, 480), (480, 640), (800, 600), (1024, 768), (1280, 720), (1920, 1080))
SMOOTHLY = Image.Resampling.LANCZOS
QUALITY = 85
MAX_PIXELS = 64_000_000
GOAL = 3.0
THREADS = (1, 2, 4, 8, 16, 32)
TEXTS_AT_ONCE = 32


def files() -> dict[tuple[int, int], list[bytes]]:
    """Each photo as a JPEG of each shape."""
    return {
        shape: [
            encoded(photo(name).resize(shape, Image.Resampling.LANCZOS), "JPEG", quality=QUALITY) for name in PHOTOS
        ]
        for shape in SHAPES
    }


def processor_s(work: Callable[[], object]) -> float:
    """The processor seconds of this thread."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def a_core(rounds: int) -> list[dict[str, Any]]:
    """Images per processor second, shape by shape, and how far the pixels are off."""
    keep_to_one_core()
    theirs, ours = image_transform(SIZE, is_train=False), ImageTransform(SIZE)
    rows = []
    for shape, datas in files().items():
        their_s, our_s = [], []
        for _ in range(rounds):
            their_s.append(processor_s(lambda: [theirs(Image.open(io.BytesIO(data))) for data in datas]))  # noqa: B023
            our_s.append(processor_s(lambda: [ours(data, MAX_PIXELS) for data in datas * 2]) / 2)  # noqa: B023
        their_speed, our_speed = (len(datas) / statistics.median(each) for each in (their_s, our_s))
        off = np.concatenate([deviation(ours, data).ravel() for data in datas])
        rows.append(
            {
                "image": f"{shape[0]}x{shape[1]}",
                "kB": f"{sum(map(len, datas)) / len(datas) / 1000:.0f}",
                "open_clip/s": their_speed,
                "ours/s": our_speed,
                "ratio": f"{our_speed / their_speed:.2f}",
                "off by 1/255": f"{np.mean(off == 1):.1%}",
                "off by more": f"{np.mean(off > 1):.1e}",
            }
        )
    return rows


def deviation(ours: ImageTransform, data: bytes) -> np.ndarray:
    """The distance of our pixels from open_clip's, before the normalisation."""
    reference = image_transform(SIZE, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))(Image.open(io.BytesIO(data)))
    return np.abs(np.rint(reference.numpy() * 255).astype(np.int16) - ours(data, MAX_PIXELS))


def through_threads(work: Callable[[list[Any]], None], jobs: Sequence[Any], threads: int, at_once: int) -> float:
    """Jobs a second through the worker's prep stage, all of them waiting from the start."""
    left = len(jobs)
    changed, over = threading.Lock(), threading.Event()

    def count(_model: str, taken: list[Any]) -> None:
        nonlocal left
        work(taken)
        with changed:
            left -= len(taken)
            if not left:
                over.set()

    def crashed(_jobs: list[Any], error: BaseException) -> None:
        raise error

    stage: PrepStage[Any] = PrepStage(count, lambda _model: True, threads, crashed, batch=lambda _model: at_once)
    for job in jobs:
        stage.submit("model", job)
    started = time.perf_counter()
    stage.start()
    over.wait()
    seconds = time.perf_counter() - started
    stage.close(10)
    return len(jobs) / seconds


def scaling(text_model: str, images: int, count: int, rounds: int) -> list[dict[str, Any]]:
    """Images and texts a second over threads, up to the cores there are."""
    transform, recipe = ImageTransform(SIZE), TransformersModel("minilm", minilm.config(text_model)).recipe()
    datas = list(islice(cycle(files()[SHAPES[0]]), images))
    sentences = texts(count, 1, 200)

    def one_image(jobs: list[bytes]) -> None:
        for data in jobs:
            transform(data, MAX_PIXELS)

    found: dict[int, tuple[list[float], list[float]]] = {
        threads: ([], []) for threads in THREADS if threads <= available_cpus()
    }
    for _ in range(rounds):
        for threads, (image_speeds, text_speeds) in found.items():
            image_speeds.append(through_threads(one_image, datas, threads, 1))
            text_speeds.append(through_threads(recipe.texts, sentences, threads, TEXTS_AT_ONCE))
    rows = []
    for threads, speeds in found.items():
        images_s, texts_s = map(statistics.median, speeds)
        alone = [statistics.median(each) for each in found[1]]
        rows.append(
            {
                "threads": str(threads),
                "images/s": images_s,
                "over one thread": f"{images_s / alone[0]:.2f}",
                "texts/s": texts_s,
                "texts, over one thread": f"{texts_s / alone[1]:.2f}",
            }
        )
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="of each shape: four photos by each side")
    parser.add_argument("--images", type=int, default=600, help="640x480, of each run over threads")
    parser.add_argument("--texts", type=int, default=3000, help="of 1 to 200 words, of each run over threads")
    parser.add_argument("--runs", type=int, default=5, help="over threads")
    minilm.add_option(parser)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as in the worker, whose prep threads are the parallelism
    rows = a_core(options.rounds)
    ratios = [float(row["ratio"]) for row in rows]
    summary = {
        f"images/s a core, ours / open_clip, median of the shapes (goal: {GOAL:.0f})": statistics.median(ratios),
        "the least of them": min(ratios),
    }
    show(f"JPEG, quality {QUALITY}, to {SIZE[0]} px: images per processor second", rows, summary, options.json)
    over_threads = scaling(options.text_model, options.images, options.texts, options.runs)
    path = options.json and options.json.with_suffix(".threads.json")
    show(
        f"Prep threads on {available_cpus()} cores, median of {options.runs}",
        over_threads,
        {"torch": torch.__version__, "load average at the end": os.getloadavg()[0]},
        path,
    )


if __name__ == "__main__":
    main()
