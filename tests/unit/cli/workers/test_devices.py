from __future__ import annotations

import json

from click.testing import CliRunner

from legit_embedding.cli import main


def test_a_command_for_each_gpu(fake_nvml):
    fake_nvml.add("GPU-aaa", "H100")
    fake_nvml.add("GPU-bbb", "H100")
    result = CliRunner().invoke(main, ["devices"])
    assert result.exit_code == 0
    commands = [line for line in result.stdout.splitlines() if line.startswith("CUDA_VISIBLE_DEVICES=")]
    assert [line.split()[0] for line in commands] == ["CUDA_VISIBLE_DEVICES=GPU-aaa", "CUDA_VISIBLE_DEVICES=GPU-bbb"]
    assert "-n gpu1@%h" in commands[1]

    shown = json.loads(CliRunner().invoke(main, ["devices", "--json"]).stdout)
    assert [each["command"] for each in shown] == commands


def test_without_a_gpu_it_says_so(fake_nvml):
    result = CliRunner().invoke(main, ["devices"])
    assert result.exit_code == 1
    assert "there is no GPU" in result.output
    assert json.loads(CliRunner().invoke(main, ["devices", "--json"]).stdout) == []
