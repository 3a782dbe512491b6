"""The corpus that every peer gets: the same for the same seed, with the words of this Python's own reference."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from tests.images import PHOTOS, encoded, photo
from tests.texts import words

if TYPE_CHECKING:
    from pathlib import Path

Task = dict[str, Any]
SHORTEST, LONGEST = 1, 200
JPEG_SIZE = (640, 480)


def mixed_texts(count: int, seed: int) -> list[str]:
    """Texts of 1 to 200 words, their lengths log-uniform."""
    chance = random.Random(seed)
    ratio = (LONGEST + 0.999) / SHORTEST
    return _texts([int(SHORTEST * ratio ** chance.random()) for _ in range(count)], chance)


def equal_texts(count: int, seed: int, length: int = 40) -> list[str]:
    """Texts of as many words each."""
    return _texts([length] * count, random.Random(seed))


def photo_files(count: int, seed: int, folder: Path) -> list[Path]:
    """JPEG files of one size, each a different part of one of scikit-image's photos."""
    chance = random.Random(seed)
    sources = [photo(name) for name in PHOTOS]
    files = []
    for number in range(count):
        source = sources[number % len(sources)]
        left, top = chance.randrange(source.width // 4), chance.randrange(source.height // 4)
        part = source.crop((left, top, left + source.width * 3 // 4, top + source.height * 3 // 4))
        files.append(folder / f"{number}.jpg")
        files[-1].write_bytes(encoded(part.resize(JPEG_SIZE), "JPEG", quality=85))
    return files


def text_tasks(texts: list[str], name: str) -> list[Task]:
    """A task for each text; `name` makes their ids unique."""
    return [{"task_id": f"{name}-{number}", "text": text} for number, text in enumerate(texts)]


def photo_tasks(files: list[Path], name: str) -> list[Task]:
    """A task for each photo."""
    return [{"task_id": f"{name}-{number}", "image_path": str(path)} for number, path in enumerate(files)]


def _texts(lengths: list[int], chance: random.Random) -> list[str]:
    source = words()
    starts = [chance.randrange(len(source) - length) for length in lengths]
    return [" ".join(source[start : start + length]) for start, length in zip(starts, lengths, strict=True)]
