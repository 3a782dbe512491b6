"""One worker a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

from legit_embedding.engine.device.choice import Choice
from legit_embedding.engine.device.cpu import CpuDevice
from legit_embedding.errors import ConfigError
from tests.unit.engine.backends import Model

GPU = Choice("cuda:0", "a test", "H100", "GPU-aaa")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def gpu(choice: Choice = GPU) -> CpuDevice:
    return CpuDevice(choice=choice)


def test_auto_leaves_a_gpu_to_the_worker_that_has_it(start_engine):
    first = start_engine(Model(), on="auto", device=gpu())
    with pytest.raises(ConfigError) as refusal:
        start_engine(Model(), on="auto", device=gpu())
    text = str(refusal.value)
    assert f"cuda:0 (H100, GPU-aaa), where process {os.getpid()} of this host computes already" in text
    assert "engine.share = true" in text
    first.close()
    start_engine(Model(), on="auto", device=gpu())


@pytest.mark.parametrize("options", [{"share": True, "on": "auto"}, {"on": "cuda:0"}])
def test_whoever_asks_for_it_may_share_it(start_engine, options):
    start_engine(Model(), on="auto", device=gpu())
    assert start_engine(Model(), device=gpu(), **options).alive()


def test_a_gpu_that_was_named_is_taken_too(start_engine):
    start_engine(Model(), on="cuda:0", device=gpu())
    with pytest.raises(ConfigError, match="computes already"):
        start_engine(Model(), on="auto", device=gpu())


def test_other_gpus_and_cpus_are_free(start_engine):
    start_engine(Model(), on="auto", device=gpu())
    start_engine(Model(), on="auto", device=gpu(Choice("cuda:0", "a test", "H100", "GPU-bbb")))
    for _ in range(2):
        start_engine(Model(), on="auto", device=gpu(Choice("cpu", "a test")))


TAKE = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from legit_embedding.engine.device.device_lock import Hold
print(Hold("GPU-aaa").take())
"""


def test_the_end_of_a_process_frees_it(tmp_path, start_engine):
    taken = [sys.executable, "-c", TAKE, str(tmp_path)]
    assert subprocess.run(taken, capture_output=True, text=True, check=True).stdout == "True\n"
    start_engine(Model(), on="auto", device=gpu())
    assert subprocess.run(taken, capture_output=True, text=True, check=True).stdout == "False\n"
