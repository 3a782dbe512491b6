"""The demo's inputs: photos of the user's or of scikit-image's, and sentences of Python's own manual."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from pydoc_data.topics import topics

SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".webp"})
FREE_PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
)
_SENTENCE = re.compile(r"[A-Z][^.!?]*(?:\.(?!\s)[^.!?]*)*[.!?](?=\s|$)")
_NOT_PROSE = re.compile(r"::|>>>|[|\\{}<>=*_]|\.\.\.|\b(?:e\.g|i\.e|etc|vs)\b|in version|- ")


def free_photo_folder() -> Path:
    """Where scikit-image keeps the freely licensed photos of its wheel."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        message = "scikit-image, whose photos the demo uses, is not installed; name a folder of photos instead"
        raise FileNotFoundError(message)
    return Path(spec.origin).parent / "data"


def find_photos(folder: Path) -> list[Path]:
    """The photos in a folder and its subfolders, in a fixed order.

    Raises:
        FileNotFoundError: there is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        message = f"there is no folder {folder}"
        raise FileNotFoundError(message)
    if folder == free_photo_folder():
        return [folder / name for name in FREE_PHOTOS if (folder / name).is_file()]
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not photos:
        message = f"there is no photo ({', '.join(sorted(SUFFIXES))}) in {folder}"
        raise FileNotFoundError(message)
    return photos


def find_sentences(count: int) -> list[str]:
    """Up to `count` different sentences, spread evenly over Python's language reference."""
    paragraphs = (" ".join(block.split()) for block in _prose_blocks())
    found = (sentence for paragraph in paragraphs for sentence in _SENTENCE.findall(paragraph))
    sentences = list(dict.fromkeys(s for s in found if 40 <= len(s) <= 250 and not _NOT_PROSE.search(s)))
    step = max(1.0, len(sentences) / count)
    return [sentences[int(index * step)] for index in range(min(count, len(sentences)))]


def _prose_blocks() -> list[str]:
    """The paragraphs of the reference that are not indented: neither code nor grammar."""
    blocks = (block for name in sorted(topics) for block in topics[name].split("\n\n"))
    return [block for block in blocks if block and not block.startswith(" ") and "\n   " not in block]
