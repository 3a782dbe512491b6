"""Which cores go with which GPU, where a host has several."""

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
    """One GPU, and where its worker should run."""

    index: int
    uuid: str
    name: str
    node: int | None
    """The NUMA node that it is attached to; None where there is one only, or none is known."""
    cpus: str
    """Its part of the cores beside it, as ``taskset -c`` takes them."""
    threads: int
    """How many these are."""

    @property
    def command(self) -> str:
        """Starts a worker there, in a shell."""
        pinned = ["taskset", "-c", self.cpus] if self.cpus else []
        if pinned and self.node is not None:
            pinned = ["numactl", f"--physcpubind={self.cpus}", f"--membind={self.node}"]
        worker = ["celery", "-A", "legit_embedding", "worker", "--pool=gpubatch"]
        named = ["-n", f"gpu{self.index}@%h", *(["-c", str(self.threads)] if self.threads else [])]
        return f"CUDA_VISIBLE_DEVICES={self.uuid} {shlex.join([*pinned, *worker, *named])}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"command": self.command}


def places(gpus: Sequence[Gpu], bus: Path = _BUS, allowed: Iterable[int] | None = None) -> list[Place]:
    """Give each GPU its part of the cores that are nearest to it.

    Args:
        gpus: those that are to have workers.
        bus: where the system describes what is on the PCI bus.
        allowed: the cores that may be used; by default those of this process.
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
    """NVML writes the domain with eight digits and in capitals, the system with four and in small letters."""
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
    """One of as many parts of equal size; all of them where there are not enough."""
    size = len(cpus) // parts
    return cpus[number * size : (number + 1) * size] if size else cpus


def _read_ranges(text: str) -> Iterable[int]:
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _ranges(cpus: Sequence[int]) -> str:
    """``0-3,8``."""
    parts: list[list[int]] = []
    for cpu in cpus:
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
