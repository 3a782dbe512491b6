"""The cores that this process may use, and pinning of a thread to one of them."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from legit_embedding.prep.cgroups import MEMBERSHIP, MOUNT, content, folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WAIT_POLICY = "OMP_WAIT_POLICY"


def available_cpus(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> int:
    """The cores that this process may really use: its affinity, or its container's quota where that is smaller.

    Args:
        membership: the file that names the process's control groups.
        mount: where the control group hierarchies are mounted.
    """
    return counted_cpus(membership, mount)[0]


def counted_cpus(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> tuple[int, str]:
    """`available_cpus`, and what limits them, for the log."""
    quota, affinity = cgroup_quota(membership, mount), _affinity()
    # Part of a core is worth a thread: a quota of 1.5 cores keeps two threads busy three quarters of the time.
    if quota and math.ceil(quota) < affinity:
        return math.ceil(quota), f"the CPU quota of {quota:g} cores"
    return affinity, "the cores that this process may use"


def cgroup_quota(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> float:
    """The smallest CPU quota of the process's control groups, in cores; 0 where there is none."""
    return min((quota for folder in folders("cpu", membership, mount) for quota in _quotas(folder)), default=0.0)


def wait_asleep() -> None:
    """Let torch's threads sleep while they wait for each other; to be called before torch is imported.

    They would spin: that is quickest on a machine that does nothing else. Here prep, Redis and other processes use the
    same cores, and whenever one of them has displaced a thread, the others burn their cores until it is back: a batch
    on a busy CPU was seen to take twice the processor time, and up to ten times as long. Only the environment can tell
    OpenMP so; an operator's own setting there wins.
    """
    os.environ.setdefault(_WAIT_POLICY, "PASSIVE")


def keep_to_one_core() -> None:
    """Make torch compute on the calling thread alone, whatever the other threads use.

    Prep has as many threads as there are cores: if each fanned out over all of them, they would fight each other and
    the device loop's thread. `torch.set_num_threads` is not enough: it sets the calling thread and also every thread
    that comes to torch later, the loop's included. OpenMP's own setter is private to the calling thread.

    Where torch is not loaded, as in a worker with remote models alone, there is nothing to do.
    """
    if "torch" not in sys.modules:
        return
    import torch

    torch.get_num_threads()  # a thread's first question sets it up from the global default, so ask before changing it
    setter = _openmp_setter()
    if setter is None:
        torch.set_num_threads(1)
    else:
        setter(1)


@cache
def _openmp_setter() -> Callable[[int], None] | None:
    import torch

    try:
        # A symbol is looked up in the library's dependencies too: this is the OpenMP that torch itself uses.
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        setter: Callable[[int], None] = library.omp_set_num_threads
    except (OSError, AttributeError):  # another platform's library, or a torch built without OpenMP
        return None
    return setter


def _affinity() -> int:
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(folder: Path) -> Iterator[float]:
    yield from _ratio(content(folder / "cpu.max"))
    yield from _ratio(f"{content(folder / 'cpu.cfs_quota_us')} {content(folder / 'cpu.cfs_period_us')}")


def _ratio(text: str) -> Iterator[float]:
    match text.split():
        case [quota, period] if quota.isdigit() and period.isdigit() and int(quota) and int(period):
            yield int(quota) / int(period)
