"""Batches put together where the device can fetch them."""

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
    """Have this thread's `stack` write within the block to what `room` gives it for a shape and a type."""
    before, _thread.room = _thread.room, room
    try:
        yield
    finally:
        _thread.room = before


def stack(arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """As `numpy.stack`, on this thread alone, and straight into the device's memory for copies if it offers some."""
    first = arrays[0]
    shape = (len(arrays), *first.shape)
    out = _thread.room(shape, first.dtype) if _thread.room is not None else np.empty(shape, first.dtype)
    return np.stack(arrays, out=out)
