"""Finds where a forward pass waits for the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_READS = frozenset(
    {
        "_local_scalar_dense",  # item(), int(), bool(), indexing with a tensor of one number
        "_unique2",
        "equal",
        "is_nonzero",
        "item",
        "masked_select",
        "nonzero",
        "unique_consecutive",
        "unique_dim",
    }
)
_INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
_COPIES = frozenset({"_to_copy", "copy_"})


class HostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operator, called by this thread, for whose answer the host has to wait.

    The names of these operators are the same on a CPU, where there is nothing to wait for: so a model can be looked
    through without a device. Copies are noted only where they really lead from a device to the host.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operator returns
        """Look at the operator's name, and call it."""
        result = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.").partition(".")[0]
        if name in _READS or (name in _INDEXING and _by_mask(args)) or (name in _COPIES and _leads_home(args, result)):
            self.found.append(name)
        return result


def _by_mask(args: tuple[Any, ...]) -> bool:
    """Whether an index is a mask: how many elements it picks, only the device knows."""
    return any(index is not None and index.dtype in {torch.bool, torch.uint8} for index in args[1])


def _leads_home(args: tuple[Any, ...], result: object) -> bool:
    sources = [value.device.type for value in args if isinstance(value, torch.Tensor)]
    return isinstance(result, torch.Tensor) and result.device.type == "cpu" and any(each != "cpu" for each in sources)
