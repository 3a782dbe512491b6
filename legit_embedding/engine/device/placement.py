"""Assignment of CPU cores to GPUs on hosts with several."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from legit_embedding.engine.device.nvml import Gpu

_BUS = Path("/sys/bus/pci/devices")


@dataclass(frozen=True, slots=True)
class Place:
    """A GPU and the cores its worker should run on."""

    index: int
    uuid: str
    name: str
    node: int | None
    """NUMA node of the GPU; None if the host has only one or the node is unknown."""
    cpus: str
    """Its share of the nearest cores, in the format of ``taskset -c``."""
    threads: int
    """Number of these cores."""

    @property
    def command(self) -> str:
        """Shell command that starts a worker on these cores."""
        pinned = ["taskset", "-c", self.cpus] if self.cpus else []
        if pinned and self.node is not None:
            pinned = ["numactl", f"--physcpubind={self.cpus}", f"--membind={self.node}"]
        worker = ["celery", "-A", "legit_embedding", "worker", "--pool=gpubatch"]
        named = ["-n", f"gpu{self.index}@%h", *(["-c", str(self.threads)] if self.threads else [])]
        return f"CUDA_VISIBLE_DEVICES={self.uuid} {shlex.join([*pinned, *worker, *named])}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the command as a JSON-serialisable dictionary."""
        return asdict(self) | {"command": self.command}


def places(gpus: Sequence[Gpu], bus: Path = _BUS, allowed: Iterable[int] | None = None) -> list[Place]:
    """Assign each GPU its share of the cores nearest to it.

    Args:
        gpus: the GPUs that get a worker.
        bus: the directory in which the system lists PCI devices.
        allowed: the usable cores; by default this process's affinity.
    """
    usable = set(os.sched_getaffinity(0) if allowed is None else allowed)
    near = {gpu.uuid: _near(bus / _folder(gpu.bus_id), usable) for gpu in gpus}
    found = []
    for gpu in gpus:
        sharing = [each.uuid for each in gpus if near[each.uuid] == near[gpu.uuid]]
        cpus = _part(near[gpu.uuid], sharing.index(gpu.uuid), len(sharing))
        found.append(Place(gpu.index, gpu.uuid, gpu.name, _node(bus / _folder(gpu.bus_id)), _ranges(cpus), len(cpus)))
    return found


def _folder(bus_id: str) -> str:
    """Convert NVML's bus address to sysfs form: a domain of four digits instead of eight, in lower case."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


def _near(folder: Path, usable: set[int]) -> tuple[int, ...]:
    try:
        beside = set(_read_ranges((folder / "local_cpulist").read_text())) & usable
    except (OSError, ValueError):
        beside = set()
    return tuple(sorted(beside or usable))


def _node(folder: Path) -> int | None:
    try:
        node = int((folder / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def _part(cpus: Sequence[int], number: int, parts: int) -> Sequence[int]:
    """Return one of several equal parts, or all cores if there are fewer cores than parts."""
    size = len(cpus) // parts
    return cpus[number * size : (number + 1) * size] if size else cpus


def _read_ranges(text: str) -> Iterable[int]:
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _ranges(cpus: Sequence[int]) -> str:
    """Format cores as ranges, for example ``0-3,8``."""
    parts: list[list[int]] = []
    for cpu in cpus:
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
