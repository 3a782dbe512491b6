"""Law 1: prep never touches CUDA.

A guarded thread that does gets a `CudaForbiddenError` at the line that did it. Two nets are needed. What in
``torch.cuda`` leads to the driver is wrapped, once per process, and refuses guarded threads. But once the device loop's
thread has initialised CUDA, tensors no longer pass through any of that: so a guarded thread also looks at every torch
function it calls, for a CUDA device among the arguments, for pinned memory, and for a CUDA tensor that comes out. That
costs it about two microseconds per call, and the other threads nothing.

What is not seen: CUDA used behind torch's back by another library, most of ``torch._C``, and a bare ``torch.Stream`` or
``torch.Generator``.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from legit_embedding.errors import CudaForbiddenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
T = TypeVar("T")

_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


class _Thread(threading.local):
    guards = 0


_thread = _Thread()
_whole_process = threading.Event()
_installing = threading.Lock()


@contextmanager
def cpu_only() -> Iterator[None]:
    """Forbid CUDA to the calling thread within the block; nothing is to be forbidden where torch is not loaded.

    A process whose models are computed here has loaded torch before its first prep thread; one with remote models alone
    never does.
    """
    if "torch" not in sys.modules:
        yield
        return
    from legit_embedding.prep.cuda_watch import CudaWatch

    _install()
    with CudaWatch():
        _thread.guards += 1
        try:
            yield
        finally:
            _thread.guards -= 1


def forbid_cuda_in_process() -> None:
    """Forbid CUDA to every thread of a process that has no device loop, and to the processes it starts.

    Raises:
        CudaForbiddenError: CUDA is in use already.
    """
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise CudaForbiddenError("CUDA is initialised already: it must be forbidden before anything uses it")
    _install()
    # The driver reads this at its first call: it hides the devices from what the wrappers do not see.
    os.environ[_VISIBLE_DEVICES] = ""
    _whole_process.set()


def is_guarded() -> bool:
    """True if the calling thread must not touch CUDA."""
    return _thread.guards > 0 or _whole_process.is_set()


def _install() -> None:
    """Wrap what leads to the driver, wherever torch itself has imported it to."""
    import torch

    with _installing:
        if hasattr(torch.cuda.is_available, "__wrapped__"):
            return
        # Everything in torch.cuda that needs a context calls _lazy_init first, each time.
        for name, wrap in (("_lazy_init", _refusing), ("device_count", _refusing), ("is_available", _absent)):
            original = getattr(torch.cuda, name)
            _replace(name, original, wrap(original))
        # Beneath them, what makes a context or moves a thread to a device's.
        beneath = sys.modules["torch._C"]
        for name in ("_cuda_init", "_cuda_setDevice", "_cuda_synchronize"):
            if hasattr(beneath, name):  # torch for the CPU has none of them
                setattr(beneath, name, _refusing(getattr(beneath, name)))
        stream = torch.cuda.Stream
        stream.__new__ = _refusing(stream.__new__)  # type: ignore[method-assign]


def _replace(name: str, original: Callable[..., Any], wrapper: Callable[..., Any]) -> None:
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("torch.cuda") and vars(module).get(name) is original:
            setattr(module, name, wrapper)


def _refusing(function: Callable[P, T]) -> Callable[P, T]:
    from legit_embedding.prep.cuda_watch import violation

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        if is_guarded():
            raise violation(f"torch.cuda.{function.__name__}")
        return function(*args, **kwargs)

    return wrapper


def _absent(is_available: Callable[P, bool]) -> Callable[P, bool]:
    # Code that asks before it uses CUDA is not at fault: it is told that there is none, and stays on the CPU.
    @wraps(is_available)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> bool:
        return not is_guarded() and is_available(*args, **kwargs)

    return wrapper
