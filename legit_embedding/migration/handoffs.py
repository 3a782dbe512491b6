"""Leftover files in the hand-off directory."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUFFIXES = (".npy", ".unfinished")
"""Suffixes of the files that prep workers write; no other files are touched."""


@dataclass(frozen=True, slots=True)
class LeftOver:
    """One leftover file."""

    path: str
    """Relative to the directory."""
    bytes: int
    age_s: float


def left_over(directory: Path, older_than_s: float = 0.0, now: Callable[[], float] = time.time) -> list[LeftOver]:
    """List the hand-offs of at least this age, oldest first. Links are neither listed nor followed.

    Raises:
        OSError: the directory cannot be read.
    """
    found = [file for _, file in _files(directory, now()) if file.age_s >= older_than_s]
    return sorted(found, key=lambda file: -file.age_s)


def sweep(directory: Path, older_than_s: float, now: Callable[[], float] = time.time) -> list[LeftOver]:
    """Remove the hand-offs of at least this age, and return the removed ones.

    Raises:
        OSError: the directory cannot be read, or a file in it cannot be removed.
    """
    removed = []
    for folder, file in _files(directory, now()):
        if file.age_s >= older_than_s and _unlink(folder, Path(file.path).name):
            removed.append(file)
    return removed


def _files(directory: Path, now: float) -> Iterator[tuple[int, LeftOver]]:
    """Yield each file with its folder's descriptor, so that the file removed is the file examined."""
    if not directory.exists():
        return
    for root, _, names, folder in os.fwalk(directory, onerror=_raise, follow_symlinks=False):
        for name in names:
            if name.endswith(SUFFIXES):
                file = _look(folder, name, Path(root).relative_to(directory) / name, now)
                if file is not None:
                    yield folder, file


def _look(folder: int, name: str, path: Path, now: float) -> LeftOver | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:  # finished meanwhile
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return LeftOver(str(path), found.st_size, max(0.0, now - found.st_mtime))


def _unlink(folder: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def _raise(error: OSError) -> None:
    raise error
