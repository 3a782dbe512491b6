"""Checks of the device through NVML, without creating a CUDA context."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pynvml

from legit_embedding.engine.device import nvml
from legit_embedding.migration.checks.finding import fail, ok, warn

if TYPE_CHECKING:
    from legit_embedding.migration.checks.deployment import Deployment
    from legit_embedding.migration.checks.finding import Finding

_MB = 1024 * 1024
_LEAST_FREE = 0.5


@dataclass(frozen=True, slots=True)
class Holder:
    """Process with a context on a device."""

    pid: int
    bytes: int | None
    command: str

    def __str__(self) -> str:
        held = "" if self.bytes is None else f", {self.bytes // _MB:,} MB"
        return f"pid {self.pid} ({self.command}{held})"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device as the driver sees it."""

    name: str
    free: int
    total: int
    holders: tuple[Holder, ...]


def memory(deployment: Deployment) -> Finding:
    """Check the free memory: batches are sized by what is free when the worker starts."""
    wanted = deployment.settings.device
    if wanted == "cpu":
        return ok("the settings say cpu")
    gpus = found()
    if not gpus:
        if wanted == "auto":
            return warn("there is no GPU: the worker would compute on the CPU", 'set device = "cpu" if that is meant')
        return fail(f"the settings say {wanted}, and there is no GPU", "run doctor where the worker will run")
    index = int(wanted.partition(":")[2] or 0)
    if index >= len(gpus):
        return fail(f"the settings say {wanted}, and there are {len(gpus)} GPUs", "mend device")
    gpu = gpus[index]
    what = f"{gpu.name}: {gpu.free // _MB:,} of {gpu.total // _MB:,} MB free"
    return ok(what) if gpu.free > _LEAST_FREE * gpu.total else warn(what, "stop what else uses it: see contexts")


def contexts(deployment: Deployment) -> Finding:
    """Check for other processes' contexts: old prep workers often hold an unused one of some hundred megabytes."""
    if deployment.settings.device == "cpu":
        return ok("the settings say cpu")
    gpus = found()
    if not gpus:
        return ok("there is no GPU, so nobody holds a context")
    holders = [holder for gpu in gpus for holder in gpu.holders]
    prep = [holder for holder in holders if "celery" in holder.command and "prep" in holder.command]
    if prep:
        todo = "law 1 of the new worker: prep needs no device. Restart them with CUDA_VISIBLE_DEVICES= (empty)"
        return warn(f"prep workers hold contexts: {_listed(prep)}", todo)
    if holders:
        todo = "expected while the old embed workers run; once they are stopped, nobody else should be here"
        return warn(f"other processes hold contexts: {_listed(holders)}", todo)
    return ok("nobody holds a context")


def found() -> list[Gpu]:
    """Return the GPUs visible to a worker here, in ``cuda:N`` order, with their users; empty without a driver."""
    driver = nvml.read()
    if driver is None:
        return []
    with nvml.connected():
        return [_gpu(pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)) for gpu in nvml.visible(driver.gpus)]


def _gpu(handle: object) -> Gpu:
    name = pynvml.nvmlDeviceGetName(handle)
    used = pynvml.nvmlDeviceGetMemoryInfo(handle)
    running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    holders = tuple(Holder(each.pid, each.usedGpuMemory, _command(each.pid)) for each in running)
    return Gpu(name.decode() if isinstance(name, bytes) else name, used.free, used.total, holders)


def _command(pid: int) -> str:
    """Return a process's command line, which is not visible from another container."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "not seen from here"
    return " ".join(word.decode("utf-8", "replace") for word in words if word)[:100]


def _listed(holders: list[Holder]) -> str:
    return "; ".join(map(str, holders))
