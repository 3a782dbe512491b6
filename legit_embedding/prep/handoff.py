"""Tensors that one worker's prep leaves for another worker's device, as ``.npy`` files in one directory."""

from __future__ import annotations

import errno
import logging
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from legit_embedding.errors import TaskError
from legit_embedding.prep.safe_open import file_beneath, folder_beneath

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Check = Callable[[np.dtype[Any], tuple[int, ...]], None]

logger = logging.getLogger(__name__)

_OURS_ALONE = 0o700
_LONGEST_HEADER = 1024
_KINDS = "fiu"
"""Floating point and whole numbers; everything else is no tensor, and objects would need pickle."""


class HandOffDirectory:
    """The one place that hand-offs come from and go to. Nothing outside it is read or removed, and no link followed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, path: str, check: Check | None = None) -> NDArray[np.generic]:
        """Read a hand-off.

        Args:
            path: the file.
            check: told the type and the shape before any data is read; raises what does not fit as a `TaskError`.

        Raises:
            TaskError: ``handoff_refused``, and why.
        """
        parts = self._parts(path)
        try:
            with file_beneath(self._directory, parts) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
                return _read_array(file, check)
        except TaskError:
            raise
        except FileNotFoundError:
            raise _refused(path, "is not there: finished already, or from another machine") from None
        except Exception as error:  # numpy's reader raises whatever comes along
            raise _refused(path, f"is not what a hand-off has to be: {_reason(error)}") from error

    def write(self, array: NDArray[np.generic]) -> Path:
        """Leave a tensor: the file is whole from the moment that it has its name.

        Raises:
            TaskError: ``handoff_refused``: the directory cannot be written to, or is full; that may pass.
        """
        try:
            return self._write(array)
        except OSError as error:
            more = "; a container's /dev/shm has 64 MB if it isn't given more" if error.errno == errno.ENOSPC else ""
            detail = f"handoff_dir: nothing can be written to {self._directory}: {_reason(error)}{more}"
            raise TaskError("handoff_refused", detail, transient=True) from error

    def _write(self, array: NDArray[np.generic]) -> Path:
        self._directory.mkdir(mode=_OURS_ALONE, parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        unfinished = self._directory / f".{name}.unfinished"
        try:
            with unfinished.open("xb") as file:
                npy.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            return unfinished.rename(self._directory / f"{name}.npy")
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def remove(self, path: str) -> None:
        """Remove a hand-off that is finished. A failure is only logged: its task is answered all the same."""
        try:
            parts = self._parts(path)
            with folder_beneath(self._directory, parts[:-1]) as folder:
                os.unlink(parts[-1], dir_fd=folder)
        except FileNotFoundError:
            pass
        except (TaskError, OSError, ValueError) as error:
            logger.warning("The finished hand-off %r cannot be removed: %s", path, error)

    def _parts(self, path: str) -> tuple[str, ...]:
        """The names from the directory on."""
        given = Path(path)
        for directory in (self._directory, self._directory.resolve()):
            if given.is_relative_to(directory):
                parts = given.relative_to(directory).parts
                if parts and ".." not in parts:
                    return parts
        raise _refused(path, f"is not below the hand-off directory {str(self._directory)!r}")


def _read_array(file: BinaryIO, check: Check | None) -> NDArray[np.generic]:
    """Read the array; exactly the file, and into memory only what the file really holds."""
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(file, max_header_size=_LONGEST_HEADER)
    if dtype.kind not in _KINDS or fortran:
        order = "Fortran" if fortran else "C"
        raise ValueError(f"{dtype} in {order} order, where a tensor of numbers in C order is expected")
    expected = dtype.itemsize * int(np.prod(shape, dtype=object))
    if not shape:
        raise ValueError("a single number, where a tensor is expected")
    if check is not None:
        check(dtype, shape)
    found = os.fstat(file.fileno()).st_size - file.tell()
    if found != expected or not expected:
        raise ValueError(f"{found} bytes of data, where {dtype} {list(shape)} has {expected}")
    array = np.empty(shape, dtype)
    if file.readinto(array.data.cast("B")) != expected:  # type: ignore[attr-defined]
        raise ValueError("it became shorter while it was read")
    return array


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())


def _refused(path: str, why: str) -> TaskError:
    return TaskError("handoff_refused", f"path: {path!r} {why}")
