"""Opens the device that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.engine.device.choice import choose
from legit_embedding.engine.device.cpu import CpuDevice

if TYPE_CHECKING:
    from legit_embedding.engine.device.base import Device


def open_device(name: str, *, thorough: bool = False) -> Device:
    """Open ``auto``, ``cpu`` or ``cuda:N``. Called by the loop's thread: this is where a CUDA context comes from.

    Args:
        name: what the settings say.
        thorough: look for each model's knee on a CPU too, as is always done on a GPU: for a plan.

    Raises:
        ConfigError: there is no such device, or ``auto`` finds a GPU that torch can't use.
    """
    choice = choose(name)
    if choice.device == "cpu":
        return CpuDevice(thorough=thorough, choice=choice)
    from legit_embedding.engine.device.cuda import CudaDevice

    return CudaDevice(choice)
