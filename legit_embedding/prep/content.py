"""The bytes of an image, wherever its task says they are."""

from __future__ import annotations

import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError
from legit_embedding.prep.safe_open import file_beneath

if TYPE_CHECKING:
    from collections.abc import Iterable

    from legit_embedding.config import FetchConfig
    from legit_embedding.prep.fetch.fetcher import Fetcher
    from legit_embedding.wire.task import TaskObject

_LONGEST_SHOWN = 200
_BASE64_CHARACTERS, _BASE64_BYTES = 4, 3


class ContentReader:
    """Reads the image of a task: a URL, base64, or a path below one of the roots."""

    def __init__(self, fetcher: Fetcher, config: FetchConfig, roots: Iterable[Path]) -> None:
        self._fetcher = fetcher
        self._limit = config.max_bytes
        self._roots = tuple(roots)

    def read(self, task: TaskObject) -> bytes:
        """The image file's bytes.

        Raises:
            TaskError: why they cannot be had.
        """
        if task.image_url is not None:
            return self._fetcher.fetch(task.image_url)
        if task.image_b64 is not None:
            return decode_base64(task.image_b64, self._limit)
        if task.image_path is not None:
            return read_path(task.image_path, self._roots, self._limit)
        raise TaskError("invalid_task", "image_url, image_b64 or image_path: the task has none of them")


def decode_base64(text: str, limit: int) -> bytes:
    """Decode the whole of a text that is base64 and nothing else.

    Raises:
        TaskError: ``invalid_task``, or ``too_large`` beyond `limit` bytes.
    """
    if len(text) // _BASE64_CHARACTERS * _BASE64_BYTES > limit + _BASE64_BYTES:
        raise _too_large("image_b64", limit)
    if text.startswith("data:"):
        raise TaskError("invalid_task", "image_b64: send the base64 alone, without the data URL around it")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise TaskError("invalid_task", f"image_b64: not base64: {error}") from None
    if not data:
        raise TaskError("invalid_task", "image_b64: empty")
    if len(data) > limit:
        raise _too_large("image_b64", limit)
    return data


def read_path(path: str, roots: Iterable[Path], limit: int) -> bytes:
    """Read a regular file below one of the roots; symbolic links are followed as long as they stay below it.

    Raises:
        TaskError: ``fetch_refused`` outside the roots, ``fetch_failed`` when it cannot be read, or ``too_large``.
    """
    root, parts = _beneath(path, roots)
    try:
        with file_beneath(root, parts) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise TaskError(
            "fetch_failed", f"image_path: {_shown(path)} cannot be read: {error.strerror or error}"
        ) from None
    if len(data) > limit:
        raise _too_large("image_path", limit)
    return data


def _beneath(path: str, roots: Iterable[Path]) -> tuple[Path, tuple[str, ...]]:
    """The root that the path really lies below, and the names from there on, free of links a moment ago."""
    try:
        real = Path(path).resolve() if os.path.isabs(path) else None
    except (OSError, ValueError, RuntimeError):  # names that are too long, a zero byte, a loop of links
        real = None
    for root in (root.resolve() for root in roots):
        if real is not None and real != root and real.is_relative_to(root):
            return root, real.relative_to(root).parts
    raise TaskError("fetch_refused", f"image_path: {_shown(path)} is not an absolute path below one of image_roots")


def _shown(path: str) -> str:
    return repr(path if len(path) <= _LONGEST_SHOWN else f"{path[:_LONGEST_SHOWN]}...")


def _too_large(field: str, limit: int) -> TaskError:
    return TaskError("too_large", f"{field}: the image has more than {limit} bytes (fetch.max_bytes)")
