from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from legit_embedding.errors import CudaForbiddenError
from legit_embedding.prep.cuda_watch import CudaWatch

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.ones(2)

# Once another thread has initialised CUDA, none of these passes through Python again: only the watch can stop them.
TOUCHES = {
    "cuda": CPU.cuda,
    "cuda of a number": lambda: CPU.cuda(0),
    "to a name": lambda: CPU.to("cuda"),
    "to an index": lambda: CPU.to("cuda:1"),
    "to a device": lambda: CPU.to(torch.device("cuda")),
    "to a keyword": lambda: CPU.to(device="cuda", non_blocking=True),
    "to a number": lambda: CPU.to(0),
    "type": lambda: CPU.type("torch.cuda.FloatTensor"),
    "new": lambda: torch.empty(2, device="cuda"),
    "new on a number": lambda: torch.empty(2, device=0),
    "tensor": lambda: torch.tensor([1.0], device="cuda"),
    "as tensor": lambda: torch.as_tensor([1.0], device=torch.device("cuda", 0)),
    "like": lambda: torch.zeros_like(CPU, device="cuda"),
    "new of a tensor": lambda: CPU.new_zeros(2, device="cuda"),
    "operator": lambda: torch.ops.aten.zeros([2], device="cuda"),
    "pinned": lambda: torch.empty(2, pin_memory=True),
    "pin": CPU.pin_memory,
    "pin operator": lambda: torch.ops.aten.pin_memory(CPU),
    "pin operator beneath": lambda: torch.ops.aten._pin_memory(CPU),
    "pin overload beneath": lambda: torch.ops.aten._pin_memory.default(CPU),
    "module": lambda: torch.nn.Linear(2, 2).cuda(),
    "module to": lambda: torch.nn.Linear(2, 2).to("cuda"),
    "default device": lambda: with_default("cuda"),
}


def with_default(device: str) -> torch.Tensor:
    with torch.device(device):
        return torch.empty(2)


class Unreachable(TorchDispatchMode):
    """Fails where the function would really run."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        devices = [value for value in (*args, *(kwargs or {}).values()) if isinstance(value, torch.device)]
        assert not any(device.type == "cuda" for device in devices), "it got through"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_every_way_to_the_device_is_refused(touch: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    # As it is after the loop's thread has initialised CUDA.
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    with Unreachable(), CudaWatch(), pytest.raises(CudaForbiddenError, match="must not touch CUDA"):
        touch()


class Elsewhere(torch.Tensor):
    """Pretends to be on the device: there may be none here."""

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True


def test_a_tensor_that_is_on_the_device_is_refused_whichever_way_it_comes() -> None:
    theirs = torch.ones(2).as_subclass(Elsewhere)
    with CudaWatch():
        for use in (lambda: theirs + 1, lambda: torch.add(CPU, theirs), lambda: CPU.to(theirs)):
            with pytest.raises(CudaForbiddenError):
                use()
        with pytest.raises(CudaForbiddenError, match="stack"):
            torch.stack([theirs, theirs])


def test_it_watches_its_own_thread_only() -> None:
    with CudaWatch(), ThreadPoolExecutor(1) as threads:
        error = threads.submit(torch.empty, 2, device="cuda").exception()
    assert not isinstance(error, CudaForbiddenError)


def test_the_rest_passes() -> None:
    with CudaWatch():
        assert torch.empty(2, device="cpu").to(torch.float64).to("cpu").dtype == torch.float64
        assert torch.full((2,), 7).tolist() == [7, 7]
        assert torch.tensor([1, 2]).unsqueeze(0).expand(3, 2).sum(0).tolist() == [3, 6]
        assert not CPU.is_pinned()
        assert str(torch.device("cuda", 1)) == "cuda:1"
        with torch.device("cpu"):
            assert torch.empty(2).device.type == "cpu"
