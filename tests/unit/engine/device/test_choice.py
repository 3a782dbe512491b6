from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from legit_embedding.engine.device import choice
from legit_embedding.engine.device.choice import Choice, choose
from legit_embedding.errors import ConfigError
from tests.unit.engine.backends import Model


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch):
    """Two GPUs, as torch would see them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    properties = [SimpleNamespace(name="H100", uuid=f"aaa{index}") for index in range(2)]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties[index])


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_the_choice_says_which_one_and_why(cuda):
    assert choose("auto") == Choice("cuda:0", "the first of 2 that torch sees", "H100", "GPU-aaa0")
    assert choose("cuda:1") == Choice("cuda:1", "the settings say so", "H100", "GPU-aaa1")
    assert choose("cuda").device == "cuda:0"
    assert choose("cpu") == Choice("cpu", "the settings say so")
    with pytest.raises(ConfigError, match="torch sees 2 CUDA devices"):
        choose("cuda:2")


def test_an_instance_of_a_gpu_is_named_as_one(cuda, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-aaa0")
    assert choose("auto").uuid == "MIG-aaa0"


def test_without_any_gpu_auto_is_the_cpu(no_cuda, fake_nvml):
    assert choose("auto") == Choice("cpu", "there is no GPU that this process may see")
    with pytest.raises(ConfigError, match=r"'cuda:1' is set, but torch sees 0 CUDA devices$"):
        choose("cuda:1")


@pytest.mark.parametrize("wanted", ["auto", "cuda:0"])
def test_a_gpu_that_torch_cannot_use_is_not_left_idle_in_silence(no_cuda, fake_nvml, monkeypatch, wanted: str):
    fake_nvml.add("GPU-aaa", "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(ConfigError) as refusal:
        choose(wanted)
    text = str(refusal.value)
    assert f"device: '{wanted}' is set, but torch {torch.__version__}, built for CUDA 13.0" in text
    assert "NVIDIA H100 80GB HBM3 under driver 550.54.15, which runs CUDA up to 12.4" in text
    assert ('device = "cpu"' in text) == (wanted == "auto")


def test_a_torch_for_the_cpu_is_told(no_cuda, fake_nvml, monkeypatch):
    for number in range(2):
        fake_nvml.add(f"GPU-{number}", "A100")
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ConfigError, match=r"built for the CPU only, cannot use 2 GPUs \(A100\)"):
        choose("auto")


def test_a_gpu_that_is_hidden_on_purpose_is_no_reason(no_cuda, fake_nvml, monkeypatch):
    fake_nvml.add("GPU-aaa", "H100")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose("auto").device == "cpu"


def test_the_log_the_plan_and_the_counters_show_it(start_engine, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(choice.nvml, "read", lambda: None)
    engine = start_engine(Model(), on="cpu")
    assert "The device is cpu: the settings say so" in caplog.messages
    assert engine.stats().device == engine.choice == Choice("cpu", "the settings say so")
    assert json.loads(json.dumps(engine.plans()["images"].as_dict()))["device"]["why"] == "the settings say so"
