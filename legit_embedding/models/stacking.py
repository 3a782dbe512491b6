"""Stacking of batches directly into the device's staging memory."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Room = Callable[[tuple[int, ...], np.dtype[np.generic]], NDArray[np.generic]]


class _Thread(threading.local):
    room: Room | None = None


_thread = _Thread()


@contextmanager
def stacking_into(room: Room) -> Iterator[None]:
    """Make this thread's `stack` write to arrays that `room` provides for a shape and dtype, within the block."""
    before, _thread.room = _thread.room, room
    try:
        yield
    finally:
        _thread.room = before


def stack(arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """Stack like `numpy.stack`, on this thread only, and into the device's staging memory if it provides any."""
    first = arrays[0]
    shape = (len(arrays), *first.shape)
    out = _thread.room(shape, first.dtype) if _thread.room is not None else np.empty(shape, first.dtype)
    return np.stack(arrays, out=out)
