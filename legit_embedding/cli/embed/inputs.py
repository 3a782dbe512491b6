"""The inputs of ``embed``: tasks and ids in order, and a digest by which a later call knows them again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from legit_embedding.cli.shared.terminal import say
from legit_embedding.cli.submit.folder import Folder, warn_of_roots
from legit_embedding.cli.submit.jsonl import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from legit_embedding.cli.submit.feeder import Item
    from legit_embedding.cli.submit.folder import By
    from legit_embedding.config import Settings


@dataclass(frozen=True, slots=True)
class Inputs:
    """A folder of images or a JSONL file. Positions are counted from 1 and are those of `submit`'s items."""

    path: Path
    by: By | None
    """The way in which a task carries an image of a folder; None for a file."""
    max_bytes: int
    """Larger images are left out."""
    count: int
    size: int
    """The last position; more than `count` where a file has blank lines."""
    digest: str

    def items(self, fields: Mapping[str, str], skip: int, leave_out: Callable[[str], None]) -> Iterator[Item]:
        """Yield the tasks after position `skip`.

        Args:
            fields: values for fields that a task does not set.
            skip: the position.
            leave_out: called with the reason for each skipped file.
        """
        if self.by is not None:
            yield from Folder(self.path, self.by, fields, self.max_bytes, leave_out).tasks(skip)
            return
        with self.path.open("rb") as file:
            yield from tasks(file, str(self.path), fields, skip)

    def ids(self) -> Iterator[tuple[int, str]]:
        """Yield each input's position and id: a task's id or its line number; an image's path below the folder."""
        if self.by is not None:
            for position, path in enumerate(_images(self.path), start=1):
                yield position, path.relative_to(self.path).as_posix()
            return
        with self.path.open("rb") as file:
            for item in tasks(file, str(self.path), {}):
                given = json.loads(item.payload).get("task_id")
                yield item.position, str(item.position if given is None else given)


def survey(path: Path, by: By | None, settings: Settings) -> Inputs:
    """Read through the inputs once.

    Raises:
        BadLineError: a line of the file is not a valid task.
    """
    if path.is_dir():
        return _folder(path, by or _best(path, settings), settings)
    if by is not None:
        message = "--by is for a folder of images"
        raise click.UsageError(message)
    return _file(path, settings)


def _best(path: Path, settings: Settings) -> By:
    """Only the names of files travel where the worker may read them."""
    folder = path.resolve()
    return "path" if any(folder.is_relative_to(root.resolve()) for root in settings.image_roots) else "content"


def _folder(path: Path, by: By, settings: Settings) -> Inputs:
    if by == "path":
        warn_of_roots(path, settings.image_roots, say)
    digest, count = hashlib.sha256(), 0
    for image in _images(path):
        count += 1
        stat = image.stat(follow_symlinks=False)
        digest.update(f"{image.relative_to(path).as_posix()!r} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return Inputs(path, by, settings.fetch.max_bytes, count, count, digest.hexdigest())


def _file(path: Path, settings: Settings) -> Inputs:
    digest = hashlib.sha256()

    def digested(lines: Iterator[bytes]) -> Iterator[bytes]:
        for line in lines:
            digest.update(line)
            yield line

    count = size = 0
    with path.open("rb") as file:
        for item in tasks(digested(file), str(path), {}):
            count, size = count + 1, item.position
    return Inputs(path, None, settings.fetch.max_bytes, count, size, digest.hexdigest())


def _images(folder: Path) -> Iterator[Path]:
    return Folder(folder, "path", {}, 0, lambda _why: None).paths()
