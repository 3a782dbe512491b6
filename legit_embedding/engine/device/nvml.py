"""GPU discovery through NVML, without creating a CUDA context or importing torch."""

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
    """NVML's index, in PCI bus order. ``cuda:N`` counts only the GPUs visible to the process."""
    uuid: str
    name: str
    instances: tuple[str, ...] = ()
    """UUIDs of its MIG instances."""
    bus_id: str = ""
    """PCI bus address."""


@dataclass(frozen=True, slots=True)
class Driver:
    """The host's GPU driver and GPUs."""

    version: str
    cuda: str
    """Newest CUDA version that the driver supports."""
    gpus: tuple[Gpu, ...]


def count_as_the_driver_does() -> None:
    """Make CUDA number the GPUs in PCI bus order, as NVML does. Must be called before torch is imported."""
    os.environ.setdefault(_ORDER, "PCI_BUS_ID")


def read() -> Driver | None:
    """Query the driver. Returns None if there is none."""
    with connected() as there:
        if not there:
            return None
        gpus = tuple(map(_gpu, range(pynvml.nvmlDeviceGetCount())))
        cuda = int(pynvml.nvmlSystemGetCudaDriverVersion())
        return Driver(_text(pynvml.nvmlSystemGetDriverVersion()), f"{cuda // 1000}.{cuda % 1000 // 10}", gpus)


@contextmanager
def connected() -> Iterator[bool]:
    """Connect to NVML within the block. Yields False if there is no driver."""
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
    """Return the GPUs visible to this process, in the order of ``cuda:0``, ``cuda:1`` and so on.

    Like CUDA, it reads ``CUDA_VISIBLE_DEVICES`` up to the first entry that matches no GPU. Entries are indices, or
    UUIDs of GPUs or MIG instances, or prefixes of these.
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
    with suppress(pynvml.NVMLError):  # a GPU without MIG instances or MIG support
        for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with suppress(pynvml.NVMLError):  # numbers may be unused
                yield _text(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
