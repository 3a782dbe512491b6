"""The GPUs as the driver's own library shows them: no context is made, and torch is not needed."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pynvml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    index: int
    """NVML's, which is the order of the PCI bus. ``cuda:N`` counts only what the process may see."""
    uuid: str
    name: str
    instances: tuple[str, ...] = ()
    """The UUIDs of its MIG instances."""
    bus_id: str = ""
    """Its place on the PCI bus."""


@dataclass(frozen=True, slots=True)
class Driver:
    """What is installed on the host."""

    version: str
    cuda: str
    """The newest CUDA that it runs."""
    gpus: tuple[Gpu, ...]


def count_as_the_driver_does() -> None:
    """Have CUDA number the GPUs by their place on the bus, as NVML does; to be called before torch is imported."""
    os.environ.setdefault(_ORDER, "PCI_BUS_ID")


def read() -> Driver | None:
    """Ask the driver; None where there is none."""
    with connected() as there:
        if not there:
            return None
        gpus = tuple(map(_gpu, range(pynvml.nvmlDeviceGetCount())))
        cuda = int(pynvml.nvmlSystemGetCudaDriverVersion())
        return Driver(_text(pynvml.nvmlSystemGetDriverVersion()), f"{cuda // 1000}.{cuda % 1000 // 10}", gpus)


@contextmanager
def connected() -> Iterator[bool]:
    """Connect to the driver's library; False where there is none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def visible(gpus: Sequence[Gpu], environment: Mapping[str, str] = os.environ) -> list[Gpu]:
    """The GPUs that this process may see, in the order of ``cuda:0``, ``cuda:1`` and so on.

    As CUDA does, it reads ``CUDA_VISIBLE_DEVICES`` up to the first entry that fits nothing. Entries are indices, or the
    UUIDs of GPUs and of MIG instances, or their beginnings.
    """
    if VISIBLE not in environment:
        return list(gpus)
    found: list[Gpu] = []
    for entry in environment[VISIBLE].split(","):
        gpu = _named(gpus, entry.strip())
        if gpu is None:
            break
        found.append(gpu)
    return found


def _named(gpus: Sequence[Gpu], entry: str) -> Gpu | None:
    if entry.isdecimal():
        return next((gpu for gpu in gpus if gpu.index == int(entry)), None)
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    return next((gpu for gpu in gpus if any(each.startswith(entry) for each in (gpu.uuid, *gpu.instances))), None)


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
    bus_id = pynvml.nvmlDeviceGetPciInfo(handle).busId
    return Gpu(index, _text(uuid), _text(name), tuple(_instances(handle)), _text(bus_id))


def _instances(handle: object) -> Iterator[str]:
    with suppress(pynvml.NVMLError):  # a GPU that has no instances, or cannot have any
        for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with suppress(pynvml.NVMLError):  # numbers may be unused
                yield _text(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
