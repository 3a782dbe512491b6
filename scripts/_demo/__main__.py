"""Embeds real photos and sentences through Celery and the worker, checks every answer, and searches both."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from redis import RedisError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from exchange import Answer, Exchange, Item
from samples import find_photos, find_sentences, free_photo_folder
from services import (
    COMMAND,
    PRETRAINED,
    RANDOM,
    TASKS,
    DemoError,
    Worker,
    environment,
    redis_address,
    weights,
    write_settings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

QUERY = "How do I catch an exception?"
WORDS = "a cup of coffee"
console = Console(highlight=False, markup=False, soft_wrap=True)


def main() -> int:
    options = _parse()
    # An orderly end for a polite kill too: nothing that was started is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        _demonstrate(options.folder.resolve(), options.images, options.sentences)
    except (DemoError, FileNotFoundError, RedisError) as error:
        console.print(f"The demo failed: {error}", style="red")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=free_photo_folder(), metavar="FOLDER")
    parser.add_argument("--images", type=int, default=48, help="at most so many photos (default: %(default)s)")
    parser.add_argument("--sentences", type=int, default=300, help="so many sentences (default: %(default)s)")
    return parser.parse_args()


def _demonstrate(photos: Path, image_count: int, sentence_count: int) -> None:
    items = _collect(photos, image_count, sentence_count)
    with tempfile.TemporaryDirectory(prefix="legit-demo-") as name:
        folder = Path(name)
        with redis_address(folder) as url, Exchange(url) as exchange:
            if "LEGIT_REDIS_URL" in os.environ:
                exchange.refuse_shared_use()
            settings = write_settings(folder, photos, TASKS)
            worker = Worker(folder, url, settings)
            try:
                answers = _use(worker, exchange, items)
                photos_read = [Path(each.item.content) for each in answers if each.item.kind == "image"]
                _search_photos(folder, environment(url, settings), photos_read)
                worker.stop(60)
                console.print("\nThe worker stopped cleanly.")
                exchange.expect_no_more()
            except DemoError as error:
                message = f"{error}\n\nThe worker's log ends:\n{worker.log_tail()}"
                raise DemoError(message) from error
            finally:
                worker.abandon()


def _collect(folder: Path, image_count: int, sentence_count: int) -> list[Item]:
    found = find_photos(folder)
    photos = [Item("image", str(path)) for path in found[:image_count]]
    sentences = [Item("text", sentence) for sentence in find_sentences(sentence_count)]
    console.print(
        f"{len(photos)} of {len(found)} photos in {folder}, "
        f"and {len(sentences)} sentences of Python's language reference"
    )
    # Mixed as traffic is, the photos spread over the sentences.
    stride = max(1, len(sentences) // max(1, len(photos)))
    groups = [sentences[start : start + stride] for start in range(0, len(sentences), stride)]
    return [
        item for photo, group in zip_longest(photos, groups) for item in (*([photo] if photo else ()), *(group or ()))
    ]


def _use(worker: Worker, exchange: Exchange, items: Sequence[Item]) -> list[Answer]:
    console.print(f"$ {' '.join(COMMAND)}")
    began = time.monotonic()
    with console.status("The worker starts and loads its models ..."):
        worker.wait_ready(180)
    console.print(f"The worker was ready after {time.monotonic() - began:.1f} s.")

    began = time.monotonic()
    answers = _embed(worker, exchange, items)
    elapsed = time.monotonic() - began

    console.print(f"{len(answers)} items in {elapsed:.1f} s: {len(answers) / elapsed:.1f} items/s, each answered once")
    for photo, why in sorted(exchange.skipped.items()):
        console.print(f"Skipped {photo}: {why}", style="yellow")
    if not any(answer.item.kind == "image" for answer in answers):
        message = "none of the photos can be read"
        raise DemoError(message)
    _show_models(answers, exchange)
    _search([answer for answer in answers if answer.item.kind == "text"], worker, exchange)
    return answers


def _embed(worker: Worker, exchange: Exchange, items: Sequence[Item]) -> list[Answer]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    answers = []
    with Progress(*columns, console=console) as progress:
        bars = {
            kind: progress.add_task(f"{kind}s", total=sum(item.kind == kind for item in items))
            for kind in ("image", "text")
        }
        for item in items:
            exchange.send(item)
        for answer in exchange.answers(worker.check):
            progress.advance(bars[answer.item.kind])
            answers.append(answer)
    return answers


def _show_models(answers: Sequence[Answer], exchange: Exchange) -> None:
    table = Table("model", "items", "dimensions", "mean batch")
    means = exchange.mean_batches()
    for model, kind in sorted({(answer.model, answer.item.kind) for answer in answers}):
        vectors = [answer.vector for answer in answers if answer.model == model]
        tower = model if model in means else f"{model} ({kind})"
        table.add_row(tower, str(len(vectors)), str(len(vectors[0])), f"{means[tower]:.1f}")
    console.print(table)


def _search(sentences: Sequence[Answer], worker: Worker, exchange: Exchange) -> None:
    exchange.send(Item("text", QUERY))
    (query,) = exchange.answers(worker.check)
    cosines = np.stack([answer.vector for answer in sentences]) @ query.vector
    console.print(f"\nThe three nearest sentences to {QUERY!r}:")
    for index in np.argsort(-cosines)[:3]:
        console.print(f"  {cosines[index]:.3f}  {sentences[index].item.content}")


def _search_photos(folder: Path, variables: dict[str, str], photos: Sequence[Path]) -> None:
    """Search the photos from the shell: by a smaller copy of one, and by words."""
    tasks, vectors, copy = folder / "photos.jsonl", folder / "photos.npy", folder / "smaller.jpg"
    lines = (json.dumps({"task_id": photo.name, "image_path": str(photo)}) for photo in photos)
    tasks.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    with Image.open(photos[0]) as photo:
        photo.convert("RGB").resize((photo.width // 2 or 1, photo.height // 2 or 1)).save(copy)
    _shell(folder, variables, "embed", tasks.name, "--out", vectors.name)
    console.print(f"\nBy a picture, {copy.name}: {photos[0].name} at half its size")
    _shell(folder, variables, "search", "--image", copy.name, "--in", vectors.name, "--top", "3")
    console.print("\nBy words")
    _shell(folder, variables, "search", WORDS, "--in", vectors.name, "--top", "3")
    if weights() == RANDOM:
        console.print(
            "The two-tower model's weights are RANDOM (seeded), so its ranking by words means nothing; likeness of "
            f"pictures is real. With the hub in reach, {PRETRAINED}=laion2b_s34b_b79k gives it real weights.",
            style="yellow",
        )


def _shell(folder: Path, variables: dict[str, str], *arguments: str) -> None:
    console.print(f"$ {shlex.join(('legit-embedding', *arguments))}")
    done = subprocess.run(["legit-embedding", *arguments], cwd=folder, env=variables, check=False)
    if done.returncode:
        message = f"legit-embedding {arguments[0]} ended with code {done.returncode}"
        raise DemoError(message)


if __name__ == "__main__":
    sys.exit(main())
