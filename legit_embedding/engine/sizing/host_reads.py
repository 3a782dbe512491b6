"""Detection of host-device synchronisation in a forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_READS = frozenset(
    {
        "_local_scalar_dense",  # item(), int(), bool(), indexing with a one-element tensor
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
    """Records the operators called by this thread whose results the host has to wait for.

    These operators have the same names on a CPU, where nothing waits, so a model can be checked without a device.
    Copies are recorded only if they actually go from a device to the host.
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
        """Call the operator and record its name if it synchronises."""
        result = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.").partition(".")[0]
        if name in _READS or (name in _INDEXING and _by_mask(args)) or (name in _COPIES and _leads_home(args, result)):
            self.found.append(name)
        return result


def _by_mask(args: tuple[Any, ...]) -> bool:
    """Return True if an index is a mask, in which case only the device knows the number of selected elements."""
    return any(index is not None and index.dtype in {torch.bool, torch.uint8} for index in args[1])


def _leads_home(args: tuple[Any, ...], result: object) -> bool:
    sources = [value.device.type for value in args if isinstance(value, torch.Tensor)]
    return isinstance(result, torch.Tensor) and result.device.type == "cpu" and any(each != "cpu" for each in sources)
