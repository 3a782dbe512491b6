"""The check of every torch function that a guarded thread calls."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from legit_embedding.errors import CudaForbiddenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_TO_CUDA = frozenset({torch.Tensor.cuda, torch.Tensor.pin_memory})
_PINNING = frozenset({"pin_memory", "_pin_memory"})
"""The operators by name: ``torch.ops`` makes an object of its own for each overload."""
_CUDA_NAMES = ("cuda", "torch.cuda.")


class CudaWatch(TorchFunctionMode):
    """Refuses torch functions that name a CUDA device, pin memory, or return a CUDA tensor."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Look, call, and look at the result."""
        kwargs = kwargs or {}
        if _asks_for_cuda(func, args, kwargs):
            raise violation(getattr(func, "__name__", str(func)))
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor) and result.is_cuda:
            raise violation(getattr(func, "__name__", str(func)))
        return result


def violation(name: str) -> CudaForbiddenError:
    """The error for the function of this name."""
    thread = threading.current_thread().name
    return CudaForbiddenError(f"{name}: thread {thread!r} must not touch CUDA: only the device loop's thread may")


def _asks_for_cuda(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if func is torch.device:  # names a device, and does not use it
        return False
    if func in _TO_CUDA or _operator(func) in _PINNING or kwargs.get("pin_memory") or _is_ordinal(kwargs.get("device")):
        return True
    if func is torch.Tensor.to and any(map(_is_ordinal, args)):
        return True
    return any(map(_is_cuda, args)) or any(map(_is_cuda, kwargs.values()))


def _operator(func: Callable[..., Any]) -> str:
    return str(getattr(func, "__name__", "")).partition(".")[0]


def _is_cuda(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_cuda
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and value.startswith(_CUDA_NAMES)


def _is_ordinal(value: object) -> bool:
    """True if this is a device by its bare number, which means the accelerator's."""
    return type(value) is int
