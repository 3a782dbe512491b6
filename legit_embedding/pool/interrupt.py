"""Raising an exception in another thread, limited to a block of code that permits it."""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set_async_exc.restype = ctypes.c_int


class Interruptible:
    """The body of a ``with`` statement that other threads may interrupt.

    CPython delivers the exception when the thread next runs Python code: a thread that is inside a C call is
    interrupted when the call returns.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None

    def __enter__(self) -> Self:
        with self._lock:
            self._thread = threading.get_ident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                # An exception that is set but not yet raised is cleared: it must not hit later code of the thread.
                _set_async_exc(thread, ctypes.py_object())

    def interrupt(self, error: type[BaseException]) -> bool:
        """Raise `error` in the body; False if no thread is in it."""
        with self._lock:
            if self._thread is None:
                return False
            _set_async_exc(self._thread, error)
            return True
