"""Runs the acceptance tests of the task stream with many tasks, and reports: ``scripts/soak``."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.soak import memory
from tests.soak.tally import REPORT

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs" / "reliability.md"
COLUMNS = ("scenario", "server", "tasks", "answered", "duplicates", "kills and cuts", "seconds", "share by worker")
MARKED = re.compile(r"(<!-- soak -->\n).*(<!-- end of soak -->\n)", re.DOTALL)
TEST_TIMEOUT_S = 1800


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000, help="a scenario has")
    parser.add_argument("--report", type=Path, default=ROOT / "build" / "soak.md", help="where the table is written")
    parser.add_argument("--publish", action="store_true", help=f"put the table into {DOCS.relative_to(ROOT)} too")
    parser.add_argument("--memory", action="store_true", help="watch one worker's memory over many items instead")
    parser.add_argument("--scale", type=float, default=1.0, help="with --memory: the share of a million null items")
    parser.add_argument("--only", default="null,minilm,image,photos", help="with --memory: the loads, by comma")
    parser.add_argument("--minutes", type=float, default=math.inf, help="with --memory: the most that a load may take")
    options, rest = parser.parse_known_args()
    if options.memory:
        names = options.only.split(",")
        known = [load.name.lower() for load in memory.LOADS]
        if rest or not set(names) <= set(known):
            parser.error(f"--memory --only takes of {','.join(known)}, by comma and without spaces, and nothing else")
        return memory.run(options.scale, names, options.minutes * 60)
    with tempfile.TemporaryDirectory() as directory:
        rows = Path(directory) / "rows.jsonl"
        rows.touch()
        code = run(options.tasks, rows, rest)
        text = markdown([json.loads(line) for line in rows.read_text().splitlines()], options.tasks, code)
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(text)
    print(text)
    if options.publish:
        DOCS.write_text(MARKED.sub(lambda marks: f"{marks[1]}{text}{marks[2]}", DOCS.read_text()))
    return code


def run(tasks: int, rows: Path, more: list[str]) -> int:
    """Run the tests; other arguments go to pytest."""
    files = sorted((ROOT / "tests" / "acceptance").glob("test_stream_*.py"))
    command = [sys.executable, "-m", "pytest", "-v", "--timeout", str(TEST_TIMEOUT_S), *more, *map(str, files)]
    env = os.environ | {"SOAK_TASKS": str(tasks), REPORT: str(rows)}
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def markdown(rows: list[dict[str, object]], tasks: int, code: int) -> str:
    """The table, and what it is of."""
    verdict = "passed" if code == 0 else "FAILED"
    said = f"{datetime.now(UTC):%Y-%m-%d}, {tasks:,} tasks a scenario, {len(os.sched_getaffinity(0))} cores: {verdict}."
    lines = [said, "", _line(COLUMNS), _line(("---",) * len(COLUMNS))]
    for row in sorted(rows, key=lambda row: str(row["server"])):
        *cells, shares = row.values()
        assert isinstance(shares, dict)
        together = sum(shares.values()) or 1
        parts = ", ".join(f"{name} {count / together:.0%}" for name, count in shares.items())
        lines.append(_line([*map(_cell, cells), parts]))
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value) or "none"


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
