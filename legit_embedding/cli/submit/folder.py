"""Tasks from the images of a folder."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from legit_embedding.cli.submit.feeder import Item
from legit_embedding.cli.submit.jsonl import encode
from legit_embedding.errors import TaskError
from legit_embedding.wire.task import TaskObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SUFFIXES = frozenset((".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))

By = Literal["path", "content"]


@dataclass(frozen=True, slots=True)
class Folder:
    """Folder of images, walked recursively in a stable order; links to folders are not followed."""

    root: Path
    by: By
    """A task either names the file, which the worker must be able to read, or contains it."""
    fields: Mapping[str, str]
    """Further fields of every task."""
    max_bytes: int
    """Larger files are skipped, because no worker would accept them."""
    leave_out: Callable[[str], None]
    """Called with the reason for each skipped file."""

    def paths(self) -> Iterator[Path]:
        """Yield the image files, recognised by suffix."""
        for folder, below, names in os.walk(self.root, onerror=lambda error: self.leave_out(str(error))):
            below.sort()
            for name in sorted(names):
                if Path(name).suffix.lower() in SUFFIXES:
                    yield Path(folder, name)

    def tasks(self, skip: int = 0) -> Iterator[Item]:
        """Yield one task per image after the first `skip`; its id is the image's path below the folder."""
        for number, path in enumerate(self.paths(), start=1):
            if number > skip:
                payload = self._payload(path)
                if payload is not None:
                    yield Item(number, payload)

    def _payload(self, path: Path) -> bytes | None:
        try:
            size = path.stat().st_size
            if size > self.max_bytes:
                self.leave_out(f"{path}: {size:,} bytes are more than fetch.max_bytes, which is {self.max_bytes:,}")
                return None
            task = {"task_id": path.relative_to(self.root).as_posix(), **self._content(path), **self.fields}
            TaskObject.parse(task)
            return encode(task)
        except (TaskError, OSError, UnicodeError) as error:
            self.leave_out(f"{path}: {error.detail if isinstance(error, TaskError) else error}")
            return None

    def _content(self, path: Path) -> dict[str, str]:
        if self.by == "path":
            return {"image_path": os.path.abspath(path)}
        return {"image_b64": base64.b64encode(path.read_bytes()).decode("ascii")}


def warn_of_roots(root: Path, image_roots: tuple[Path, ...], say: Callable[[str], None]) -> None:
    """Warn if a worker with these settings may not read the folder."""
    absolute = root.resolve()
    if not any(absolute.is_relative_to(allowed.resolve()) for allowed in image_roots):
        say(f"warning: {absolute} is under none of image_roots; a worker with these settings will refuse it")
