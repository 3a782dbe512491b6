"""Choice of the device that this process computes on."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from legit_embedding.engine.device import nvml
from legit_embedding.errors import ConfigError

if TYPE_CHECKING:
    from legit_embedding.engine.device.nvml import Driver


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen device and the reason, as shown in the log, the plan, the identity's hash and the metrics."""

    device: str
    """``cpu`` or ``cuda:N``."""
    why: str
    name: str = ""
    uuid: str = ""
    """UUID of the GPU or of its MIG instance; empty for a CPU."""

    def as_dict(self) -> dict[str, str]:
        """Return the fields as a JSON-serialisable dictionary."""
        return asdict(self)


def choose(wanted: str) -> Choice:
    """Choose a device.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda:N``.

    Raises:
        ConfigError: there is no such device, or ``auto`` would fall back to the CPU beside a GPU that torch cannot use.
    """
    if wanted == "cpu":
        return Choice("cpu", "the settings say so")
    if not torch.cuda.is_available():
        return _without_cuda(wanted, nvml.read())
    index, count = int(wanted.partition(":")[2] or 0), torch.cuda.device_count()
    if index >= count:
        message = f"device: {wanted!r} is set, but torch sees {count} CUDA devices"
        raise ConfigError(message)
    properties = torch.cuda.get_device_properties(index)
    why = "the settings say so" if wanted != "auto" else f"the first of {count} that torch sees"
    return Choice(f"cuda:{index}", why, properties.name, _uuid(properties))


def _without_cuda(wanted: str, driver: Driver | None) -> Choice:
    seen = nvml.visible(driver.gpus) if driver is not None else []
    if wanted == "auto" and not seen:
        return Choice("cpu", "there is no GPU that this process may see")
    reason = "torch sees 0 CUDA devices"
    if driver is not None and seen:
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
        reason = (
            f"torch {torch.__version__}, built for {built}, cannot use {_listed([gpu.name for gpu in seen])} "
            f"under driver {driver.version}, which runs CUDA up to {driver.cuda}: "
            "update the driver, or install a torch built for its CUDA"
        )
        reason += ', or set device = "cpu" if that is meant' if wanted == "auto" else ""
    message = f"device: {wanted!r} is set, but {reason}"
    raise ConfigError(message)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} GPUs ({', '.join(sorted(set(names)))})"


def _uuid(properties: object) -> str:
    uuid = getattr(properties, "uuid", None)  # torch >= 2.5
    if uuid is None:
        return ""
    kind = "MIG" if os.environ.get(nvml.VISIBLE, "").startswith("MIG-") else "GPU"
    return f"{kind}-{uuid}"
