"""Files below a directory, and none outside it, whatever the path says and whatever is swapped meanwhile."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Opening a pipe must not wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def folder_beneath(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """Open a folder by its names below a root, following no symbolic link, as a descriptor.

    Raises:
        OSError: a name does not exist, is a link, or is no folder.
    """
    descriptor = os.open(root, _FOLDER)
    try:
        for name in parts:
            inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def file_beneath(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """Open a regular file by its names below a root, following no symbolic link, as a descriptor.

    Raises:
        OSError: a name does not exist, is a link, or is not what it has to be.
    """
    with folder_beneath(root, parts[:-1]) as folder:
        descriptor = os.open(parts[-1], _FILE, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)
