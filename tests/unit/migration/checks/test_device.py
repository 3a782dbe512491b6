"""What the driver says, without a driver."""

from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from legit_embedding.config import Settings
from legit_embedding.migration.checks import device
from legit_embedding.migration.checks.device import Gpu, Holder

MB = 1024 * 1024
PREP = Holder(7, 512 * MB, "python -m celery -A shop worker -n prep1@host")
EMBED = Holder(8, None, "python -m celery -A shop worker -n embed@host")


def deployment(wanted="auto"):
    return SimpleNamespace(settings=Settings(device=wanted))


@pytest.fixture
def gpus(monkeypatch):
    gpus = []
    monkeypatch.setattr(device, "found", lambda: gpus)
    return gpus


@pytest.mark.parametrize(("wanted", "level"), [("cpu", "ok"), ("auto", "warn"), ("cuda", "fail"), ("cuda:1", "fail")])
def test_without_a_gpu(gpus, wanted, level):
    assert device.memory(deployment(wanted)).level == level
    assert device.contexts(deployment(wanted)).level == "ok"


def test_free_memory(gpus):
    gpus.append(Gpu("H100", 70_000 * MB, 80_000 * MB, ()))
    assert device.memory(deployment()) == device.ok("H100: 70,000 of 80,000 MB free")
    assert device.memory(deployment("cuda:1")).level == "fail"
    gpus[0] = Gpu("H100", 30_000 * MB, 80_000 * MB, (EMBED,))
    assert device.memory(deployment()).level == "warn"


def test_phantom_contexts_are_named(gpus):
    gpus.append(Gpu("H100", 1, 2, ()))
    assert device.contexts(deployment()).level == "ok"
    gpus[0] = Gpu("H100", 1, 2, (EMBED,))
    assert device.contexts(deployment()).what.endswith("(python -m celery -A shop worker -n embed@host)")
    gpus[0] = Gpu("H100", 1, 2, (EMBED, PREP))
    finding = device.contexts(deployment())
    assert (finding.level, finding.what) == ("warn", f"prep workers hold contexts: {PREP}")
    assert "pid 7" in finding.what
    assert "512 MB" in finding.what


def test_no_driver_is_no_gpu(monkeypatch):
    def refuse():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert device.found() == []


def test_what_the_driver_says(fake_nvml):
    fake_nvml.add("GPU-aa", "H100", free=1, total=2, running=[SimpleNamespace(pid=4_000_000_000, usedGpuMemory=None)])
    assert device.found() == [Gpu("H100", 1, 2, (Holder(4_000_000_000, None, "not seen from here"),))]


def test_the_gpus_are_those_that_a_worker_sees(fake_nvml, monkeypatch):
    for number in range(3):
        fake_nvml.add(f"GPU-{number}", f"H10{number}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-2,0")
    assert [gpu.name for gpu in device.found()] == ["H102", "H100"]
    assert device.memory(deployment("cuda:1")).what.startswith("H100: ")
    assert device.memory(deployment("cuda:2")).level == "fail"
