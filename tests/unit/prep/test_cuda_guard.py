from __future__ import annotations

import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import torch

from legit_embedding.errors import CudaForbiddenError
from legit_embedding.prep.cuda_guard import cpu_only, is_guarded

if TYPE_CHECKING:
    from collections.abc import Callable


def in_thread(function: Callable[[], object]) -> BaseException | None:
    """What the function raises in a thread of its own."""
    with ThreadPoolExecutor(1, "prep") as threads:
        return threads.submit(function).exception()


TOUCHES = {
    "count": lambda: torch.cuda.device_count(),  # noqa: PLW0108 - looked up when it is called
    "properties": lambda: torch.cuda.get_device_properties(0),
    "name": torch.cuda.get_device_name,
    "memory": torch.cuda.mem_get_info,
    "current device": torch.cuda.current_device,
    "set device": lambda: torch.cuda.set_device(0),
    "synchronize": torch.cuda.synchronize,
    "stream": torch.cuda.Stream,
    "current stream": torch.cuda.current_stream,
    "event": lambda: torch.cuda.Event().record(),
    "seed": torch.cuda.get_rng_state,
    "init": torch.cuda.init,
    "init beneath": lambda: torch._C._cuda_init(),  # noqa: PLW0108
    "set device beneath": lambda: torch._C._cuda_setDevice(0),
    "synchronize beneath": lambda: torch._C._cuda_synchronize(),  # noqa: PLW0108
    "new tensor": lambda: torch.zeros(2, device="cuda"),
    "storage": lambda: torch.UntypedStorage(4, device="cuda"),
    "pinned": lambda: torch.empty(2, pin_memory=True),
}


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_a_guarded_thread_is_stopped_where_it_touches_cuda(touch: Callable[[], object]) -> None:
    def guarded() -> None:
        with cpu_only():
            touch()

    error = in_thread(guarded)
    assert isinstance(error, CudaForbiddenError)
    assert "'prep_0'" in str(error)
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__)]
    assert "touch()" in lines


def test_code_that_asks_first_is_told_that_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_cuda_getDeviceCount", lambda: 4)
    with cpu_only():
        assert not torch.cuda.is_available()
    assert torch.cuda.is_available()


def test_other_threads_are_left_alone() -> None:
    with cpu_only():
        assert is_guarded()
        assert not isinstance(in_thread(lambda: torch.zeros(2, device="cuda").sum()), CudaForbiddenError)
        assert in_thread(torch.cuda.device_count) is None
    assert not is_guarded()
    torch.cuda.device_count()


def test_blocks_nest_and_end_with_an_error() -> None:
    def nested() -> None:
        with cpu_only():
            with cpu_only():
                pass
            torch.cuda.device_count()

    with pytest.raises(CudaForbiddenError):
        nested()
    assert not is_guarded()
    torch.cuda.device_count()


def test_a_thread_may_end_guarded() -> None:
    def guarded() -> None:
        guard = cpu_only()
        guard.__enter__()
        with cpu_only():
            pass
        assert is_guarded()
        with pytest.raises(CudaForbiddenError):
            torch.ones(1).cuda()

    for _ in range(20):
        assert in_thread(guarded) is None


def test_work_on_the_cpu_is_allowed() -> None:
    with cpu_only():
        image = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4)
        small = torch.nn.functional.interpolate(image, (2, 2), mode="bicubic", antialias=True)
        assert small.to("cpu").numpy().shape == (1, 3, 2, 2)
        assert torch.device("cuda:0").index == 0
        assert torch.zeros(2, device=torch.device("cpu")).tolist() == [0, 0]


FORBID = """
import os, threading, torch
from legit_embedding.errors import CudaForbiddenError
from legit_embedding.prep.cuda_guard import forbid_cuda_in_process

forbid_cuda_in_process()
assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
refused = []

def touch():
    for use in (torch.cuda.device_count, torch.cuda.mem_get_info, lambda: torch.ones(1).cuda(), torch.cuda.init):
        try:
            use()
        except CudaForbiddenError:
            refused.append(True)

touch()
thread = threading.Thread(target=touch)
thread.start()
thread.join()
print(len(refused), torch.cuda.is_available())
torch.cuda.is_initialized = lambda: True
try:
    forbid_cuda_in_process()
except CudaForbiddenError as error:
    print(error)
"""


def test_a_process_without_a_loop_forbids_it_to_all_its_threads() -> None:
    printed = subprocess.run([sys.executable, "-c", FORBID], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[0] == "8 False"
    assert "initialised already" in printed.splitlines()[1]
