"""The driver's library, pretended: no machine of ours has a GPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pynvml

if TYPE_CHECKING:
    import pytest


@dataclass
class FakeGpu:
    uuid: str
    name: str
    instances: list[str]
    free: int = 0
    total: int = 1
    running: list[Any] = field(default_factory=list)
    busId: bytes = b""  # noqa: N815 - NVML's name


class FakeNvml:
    """Answers what a test has put into it, in place of the functions of `pynvml`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gpus: list[FakeGpu] = []
        answers = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: "550.54.15",
            "nvmlSystemGetCudaDriverVersion": lambda: 12040,
            "nvmlDeviceGetCount": lambda: len(self.gpus),
            "nvmlDeviceGetHandleByIndex": lambda index: self.gpus[index],
            "nvmlDeviceGetHandleByUUID": lambda uuid: next(gpu for gpu in self.gpus if gpu.uuid == uuid),
            "nvmlDeviceGetUUID": lambda handle: getattr(handle, "uuid", handle),
            "nvmlDeviceGetPciInfo": lambda gpu: gpu,
            "nvmlDeviceGetName": lambda gpu: gpu.name.encode(),
            "nvmlDeviceGetMemoryInfo": lambda gpu: gpu,
            "nvmlDeviceGetComputeRunningProcesses": lambda gpu: gpu.running,
            "nvmlDeviceGetMaxMigDeviceCount": lambda gpu: 1 + len(gpu.instances),
            "nvmlDeviceGetMigDeviceHandleByIndex": self._instance,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(pynvml, name, answer)

    def add(self, uuid: str, name: str, instances: tuple[str, ...] = (), **more: Any) -> None:
        """Put in one more GPU."""
        self.gpus.append(FakeGpu(uuid, name, list(instances), **more))

    @staticmethod
    def _instance(gpu: FakeGpu, number: int) -> str:
        if number >= len(gpu.instances):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return gpu.instances[number]
