"""Creation of the device that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.engine.device.choice import choose
from legit_embedding.engine.device.cpu import CpuDevice

if TYPE_CHECKING:
    from legit_embedding.engine.device.base import Device


def open_device(name: str) -> Device:
    """Open ``auto``, ``cpu`` or ``cuda:N``. Called on the loop's thread, because it creates the CUDA context.

    Args:
        name: the device setting.

    Raises:
        ConfigError: there is no such device, or ``auto`` finds a GPU that torch cannot use.
    """
    choice = choose(name)
    if choice.device == "cpu":
        return CpuDevice(choice)
    from legit_embedding.engine.device.cuda import CudaDevice

    return CudaDevice(choice)
