from __future__ import annotations

import os
import subprocess
import sys

import pynvml
import pytest

from legit_embedding.engine.device import nvml
from legit_embedding.engine.device.nvml import Driver, Gpu

GPUS = (Gpu(0, "GPU-aaa1", "H100"), Gpu(1, "GPU-aab2", "H100", ("MIG-x", "MIG-y")), Gpu(2, "GPU-ccc3", "A100"))


def test_what_the_driver_shows(fake_nvml):
    fake_nvml.add("GPU-aaa1", "H100")
    fake_nvml.add("GPU-aab2", "H100", instances=("MIG-x", "MIG-y"))
    assert nvml.read() == Driver("550.54.15", "12.4", GPUS[:2])


def test_without_a_driver_there_is_none(monkeypatch: pytest.MonkeyPatch):
    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert nvml.read() is None


@pytest.mark.parametrize(
    ("value", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        ("0, 1", [0, 1]),
        ("1,7,0", [1]),
        ("GPU-ccc3", [2]),
        ("GPU-aab", [1]),
        ("MIG-y", [1]),
        ("NoDevFiles", []),
    ],
)
def test_a_process_sees_what_its_environment_lets_it(value: str | None, indices: list[int]):
    environment = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert [gpu.index for gpu in nvml.visible(GPUS, environment)] == indices


PROBE = """
import os, sys
from legit_embedding import process
import legit_embedding.engine.device.nvml as nvml
original = nvml.count_as_the_driver_does
def count():
    original()
    print("torch" in sys.modules, os.environ["CUDA_DEVICE_ORDER"])
    raise SystemExit
nvml.count_as_the_driver_does = count
process.start(None, 1)
"""


@pytest.mark.parametrize("given", [None, "FASTEST_FIRST"])
def test_cuda_counts_as_the_driver_does(given: str | None):
    environment = dict(os.environ) | ({"CUDA_DEVICE_ORDER": given} if given else {})
    run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout == f"False {given or 'PCI_BUS_ID'}\n"
