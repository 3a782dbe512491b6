"""Sends valid and hostile requests to the HTTP door, and holds a thousand slow connections: ``scripts/soak --http``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.http_soak import mixed, slow
from tests.http_soak.valid import MOST_OFF
from tests.soak.memory import MIB, SLOPE
from tests.soak.memory import row as of_memory

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs" / "reliability.md"
MARKED = re.compile(r"(<!-- http -->\n).*(<!-- end of http -->\n)", re.DOTALL)
MOST_FAULTS = 20
MOST_GROWTH_MIB = 16
"""The most that resident memory may grow over the second half, by the line through its readings."""
SLOW_RATIO = 10
"""How many times as large as alone the p99 of honest clients may be beside slow ones; no request may fail."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak --http", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=1000, help="slow connections")
    parser.add_argument("--seconds", type=float, default=20, help="of each phase with and without slow connections")
    parser.add_argument("--publish", action="store_true", help=f"put the tables into {DOCS.relative_to(ROOT)} too")
    options = parser.parse_args()
    report = mixed.run(options.requests)
    phases = slow.run(options.slow, options.seconds)
    said = f"{datetime.now(UTC):%Y-%m-%d}, {len(os.sched_getaffinity(0))} cores, seed {mixed.SEED}."
    text = "\n\n".join([said, of_valid(report), of_hostile(report), of_memory_table(report), of_slow(phases)]) + "\n"
    print(text)
    found = [*report.faults, *faults(report, phases)]
    print("\n".join(found[:MOST_FAULTS]), file=sys.stderr)
    if options.publish:
        DOCS.write_text(MARKED.sub(lambda marks: f"{marks[1]}{text}{marks[2]}", DOCS.read_text()))
    return int(bool(found))


def faults(report: mixed.Report, phases: list[slow.Phase]) -> list[str]:
    """What goes beyond the bounds."""
    found = [
        f"beside {phase.slow} slow clients: p99 {phase.ms(99):.0f} ms, {len(phase.failed)} failed: {phase.failed[:3]}"
        for phase in phases[1:]
        if phase.failed or phase.ms(99) > SLOW_RATIO * phases[0].ms(99)
    ]
    if growth(report) > MOST_GROWTH_MIB:
        found.append(f"resident memory grew by {growth(report):.1f} MiB over the second half")
    return found


def growth(report: mixed.Report) -> float:
    """In MiB, over the second half."""
    return float(of_memory("HTTP", report.readings)["second half, MiB"])


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def of_valid(report: mixed.Report) -> str:
    rows = [(k, f"{each.sent:,}", f"{each.right:,}", f"{each.off:.1e}") for k, each in sorted(report.valid.items())]
    right, sent = report.right
    largest = max(each.off for each in report.valid.values())
    rows.append(("all", f"{sent:,}", f"{right:,}", f"{largest:.1e}"))
    return table(("valid requests", "sent", f"right (within {MOST_OFF:g})", "largest difference"), rows)


def of_hostile(report: mixed.Report) -> str:
    rows = [
        (kind, f"{answers.total():,}", ", ".join(f"{status} ({n})" for status, n in sorted(answers.items())))
        for kind, answers in sorted(report.hostile.items())
    ]
    rows.append(
        ("all", f"{report.refused:,}", f"{len(report.faults)} answers of another kind or shape, or other faults")
    )
    return table(("hostile requests", "sent", "answers"), rows)


def of_memory_table(report: mixed.Report) -> str:
    row = of_memory("HTTP", report.readings)
    names = ("items", "items/s", "resident, MiB", "second half, MiB", SLOPE, "descriptors", "threads")
    heads = [name.replace("items", "requests") for name in names]
    return table(heads, [[row[name] for name in names]])


def of_slow(phases: list[slow.Phase]) -> str:
    rows = [
        (
            f"{each.slow:,}",
            "default" if each.places is None else f"{each.places:,}",
            f"{each.held:,}",
            f"{each.cut:,}",
            f"{len(each.latencies):,}",
            str(len(each.failed)),
            f"{each.ms(50):.0f}",
            f"{each.ms(99):.0f}",
            f"{each.resident / MIB:.0f}",
        )
        for each in phases
    ]
    heads = (
        "slow clients",
        "max_connections",
        "connections held",
        "cut",
        "honest requests",
        "failed",
        "p50, ms",
        "p99, ms",
    )
    return table((*heads, "resident, MiB"), rows)


if __name__ == "__main__":
    sys.exit(main())
