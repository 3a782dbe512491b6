from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from legit_embedding.prep.cpus import available_cpus, cgroup_quota, counted_cpus

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    """A folder for a made-up system: its groups below ``mount``, and the process's membership in ``self``."""
    (tmp_path / "mount").mkdir()
    return tmp_path


def quota(system: Path, membership: str, files: dict[str, str]) -> float:
    (system / "self").write_text(membership)
    for name, content in files.items():
        path = system / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return cgroup_quota(system / "self", system / "mount")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 0),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/\n", {"cpu.max": "100000\n"}, 0),
        ("0::/\n", {}, 0),
        ("0::/pod/worker\n", {"pod/cpu.max": "300000 100000", "pod/worker/cpu.max": "max 100000"}, 3),
        ("0::/pod/worker\n", {"pod/cpu.max": "300000 100000", "pod/worker/cpu.max": "100000 100000"}, 1),
        ("0::/on/the/host\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/pod/../../other\n", {"cpu.max": "200000 100000"}, 2),
        (
            "5:memory:/a\n4:cpu,cpuacct:/docker/x\n",
            {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "150000", "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000"},
            1.5,
        ),
        ("4:cpu:/docker/x\n", {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 0),
        ("4:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "400000", "cpuset/cpu.cfs_period_us": "100000"}, 0),
        ("nonsense\n", {}, 0),
    ],
)
def test_the_quota_is_the_smallest_that_binds(
    cgroups: Path, membership: str, files: dict[str, str], expected: float
) -> None:
    assert quota(cgroups, membership, files) == expected


def test_the_affinity_and_the_quota_bound_each_other(cgroups: Path) -> None:
    real = len(os.sched_getaffinity(0))
    for cpu_max, expected in (("max 100000", real), ("100 100000", 1), ("99900000 100000", real)):
        quota(cgroups, "0::/\n", {"cpu.max": cpu_max})
        assert available_cpus(cgroups / "self", cgroups / "mount") == expected
    assert available_cpus(cgroups / "none", cgroups / "none") == real
    quota(cgroups, "0::/\n", {"cpu.max": "50 100000"})
    if real > 1:
        assert counted_cpus(cgroups / "self", cgroups / "mount") == (1, "the CPU quota of 0.0005 cores")
    assert counted_cpus(cgroups / "none", cgroups / "none") == (real, "the cores that this process may use")
    assert 1 <= available_cpus() <= real


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_the_affinity_counts() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert available_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


ONE_CORE = """
import os, threading, torch
from legit_embedding.prep.cpus import keep_to_one_core

def in_thread(function):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(function()))
    thread.start()
    thread.join()
    return seen[0]

def prep():
    keep_to_one_core()
    image = torch.zeros(3, 2000, 2000, dtype=torch.uint8)
    before = set(os.listdir("/proc/self/task"))
    (image + 1).float().permute(1, 2, 0).contiguous()
    return torch.get_num_threads(), len(set(os.listdir("/proc/self/task")) - before)

torch.set_num_threads(2)  # what every thread that comes to torch later starts from
before = torch.get_num_threads()
print(in_thread(prep), before == torch.get_num_threads() == in_thread(torch.get_num_threads), in_thread(prep))
"""


def test_a_thread_keeps_to_one_core_and_leaves_the_others_theirs() -> None:
    command = [sys.executable, "-c", ONE_CORE]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "(1, 0) True (1, 0)\n"


WATCH_FOR_TORCH = """
import os, sys

class Watch:
    def find_spec(self, name, *rest):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"))
            raise SystemExit

sys.meta_path.insert(0, Watch())
from legit_embedding import process
process.start(None, threads=1)
"""


@pytest.mark.parametrize(("given", "seen"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_a_worker_s_torch_is_told_to_wait_asleep_before_it_is_imported(given: dict[str, str], seen: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    watch = [sys.executable, "-c", WATCH_FOR_TORCH]
    assert subprocess.run(watch, env=env, capture_output=True, text=True, check=True).stdout.strip() == seen
