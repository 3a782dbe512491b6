from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
import torch

from legit_embedding.engine.device import cpu
from legit_embedding.engine.sizing.cost_model import CPU_UNKNOWN_BYTES
from legit_embedding.prep.memory import (
    KEPT_PRIMITIVES,
    _glibc_trim,
    available_memory,
    counted_memory,
    keep_one_heap,
    return_free_memory,
)

if TYPE_CHECKING:
    from pathlib import Path

GIB, UNLIMITED = 2**30, 9223372036854771712
MEMINFO = f"MemTotal:       {8 * GIB // 1024} kB\nMemFree: 1 kB\nMemAvailable:   {4 * GIB // 1024} kB\n"
V2 = "0::/pod/worker\n"
V1 = "5:cpu,cpuacct:/x\n4:memory:/docker/x\n"
OF_GROUP, OF_HOST = "the memory limit of the control group", "the host's memory"


def system(folder: Path, membership: str, files: dict[str, object]) -> tuple[Path, Path, Path]:
    """A made-up system: membership, mount, and the host's memory."""
    for name, content in {"self": membership, "meminfo": MEMINFO, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content))
    return folder / "self", folder / "mount", folder / "meminfo"


@pytest.mark.parametrize(
    ("membership", "files", "total", "source", "available"),
    [
        (V2, {}, 8 * GIB, OF_HOST, 4 * GIB),
        (V2, {"mount/pod/worker/memory.max": "max\n"}, 8 * GIB, OF_HOST, 4 * GIB),
        (
            V2,
            {"mount/pod/worker/memory.max": f"{GIB}\n", "mount/pod/worker/memory.current": GIB // 4},
            GIB,
            OF_GROUP,
            3 * GIB // 4,
        ),
        (
            V2,
            {
                "mount/pod/worker/memory.max": 2 * GIB,
                "mount/pod/worker/memory.current": 0,
                "mount/pod/memory.max": GIB,
                "mount/pod/memory.current": GIB,
                "mount/pod/memory.stat": f"anon 5\ninactive_file {GIB // 2}\nfile 7\n",
            },
            GIB,
            OF_GROUP,
            GIB // 2,
        ),
        (V2, {"mount/pod/memory.max": 16 * GIB, "mount/pod/memory.current": 0}, 8 * GIB, OF_HOST, 4 * GIB),
        (V2, {"mount/memory.max": GIB, "mount/memory.current": 2 * GIB}, GIB, OF_GROUP, 0),
        (V1, {"mount/memory/docker/x/memory.limit_in_bytes": UNLIMITED}, 8 * GIB, OF_HOST, 4 * GIB),
        (
            V1,
            {
                "mount/memory/docker/x/memory.limit_in_bytes": GIB,
                "mount/memory/docker/x/memory.usage_in_bytes": GIB // 2,
                "mount/memory/docker/x/memory.stat": f"inactive_file 0\ntotal_inactive_file {GIB // 4}\n",
            },
            GIB,
            OF_GROUP,
            3 * GIB // 4,
        ),
        (V1, {"mount/cpu,cpuacct/x/memory.limit_in_bytes": GIB}, 8 * GIB, OF_HOST, 4 * GIB),
    ],
)
def test_the_smallest_limit_binds(
    tmp_path: Path, membership: str, files: dict[str, object], total: int, source: str, available: int
) -> None:
    places = system(tmp_path, membership, files)
    assert counted_memory(*places) == (total, source)
    assert available_memory(*places) == available


def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    nowhere = (tmp_path / "self", tmp_path / "mount", tmp_path / "meminfo")
    assert counted_memory(*nowhere) == (0, "unknown")
    assert available_memory(*nowhere) is None


def test_this_system_has_some() -> None:
    total, _ = counted_memory()
    assert 0 < (available_memory() or 0) <= total


@pytest.mark.parametrize(("available", "expected"), [(None, CPU_UNKNOWN_BYTES), (5000, 2500), (0, 0)])
def test_batches_on_a_cpu_take_a_share_of_what_is_there_at_the_start(
    monkeypatch: pytest.MonkeyPatch, available: int | None, expected: int
) -> None:
    device = cpu.CpuDevice()
    assert device.torch_device == torch.device("cpu")
    monkeypatch.setattr(cpu, "available_memory", lambda: available)
    assert device.free_bytes() == expected
    monkeypatch.setattr(cpu, "available_memory", lambda: 10)
    assert device.free_bytes() == expected
    device.close()


TWENTY_SHAPES_TWICE = """
from legit_embedding import process
process.set_up()
import torch
for columns in [*range(1, 21)] * 2:
    torch.nn.functional.gelu(torch.ones(64, 16 * columns))
"""


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN")
@pytest.mark.parametrize(("given", "compiled"), [({}, 40), ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"}, 20)])
def test_a_worker_s_torch_keeps_the_code_of_few_shapes(given: dict[str, str], compiled: int) -> None:
    """What is not kept is compiled again, as oneDNN's own log says."""
    assert KEPT_PRIMITIVES < 20
    env = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN_")} | given
    command = [sys.executable, "-c", TWENTY_SHAPES_TWICE]
    said = subprocess.run(command, env=env | {"ONEDNN_VERBOSE": "2"}, capture_output=True, text=True, check=True).stdout
    assert said.count("create:cache_miss") == compiled


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_goes_back_to_the_system() -> None:
    """Each fourth block stays, the last one too, so that nothing large is free at the end of the heap."""
    count, size, resident = 4000, 50_000, psutil.Process().memory_info
    blocks = [b"x" * size for _ in range(count)]
    kept = blocks[3::4]
    del blocks
    before = resident().rss
    return_free_memory()
    assert before - resident().rss > 0.9 * count * size * 3 / 4
    assert len(kept) == count / 4


EIGHT_THREADS = """
import ctypes, sys, threading
from legit_embedding import process
process.set_up()
import torch
met = threading.Barrier(8)
def work():
    kept = [bytes(1000) for _ in range(100)]
    met.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize(
    ("given", "heaps"),
    [({}, 1), ({"MALLOC_ARENA_MAX": "3"}, 3), ({"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}, 4)],
)
def test_a_worker_s_threads_share_a_heap(given: dict[str, str], heaps: int) -> None:
    """As the allocator itself says."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))} | given
    command = [sys.executable, "-c", EIGHT_THREADS]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert said.count("<heap nr=") == heaps


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        pass

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Musl())
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    keep_one_heap()
    _glibc_trim.cache_clear()
    return_free_memory()
    _glibc_trim.cache_clear()
