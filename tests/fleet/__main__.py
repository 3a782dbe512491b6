"""Runs the fleet at size and reports: ``scripts/soak --fleet``."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.fleet.controller import Policy
from tests.fleet.proof import LATE_S, Proof, prove

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs" / "reliability.md"
MARKED = re.compile(r"(<!-- fleet -->\n).*(<!-- end of fleet -->\n)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak --fleet", description=__doc__)
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--waves", type=int, default=3)
    parser.add_argument("--workers", type=int, default=6, help="the most at once")
    parser.add_argument("--publish", action="store_true", help=f"put the table into {DOCS.relative_to(ROOT)} too")
    options = parser.parse_args()
    target = max(1, options.tasks // options.waves // (2 * options.workers))
    policy = Policy(target=target, most=options.workers, ramp_s=2.0, stabilisation_s=4.0, grace_s=30.0)
    with tempfile.TemporaryDirectory() as directory:
        proof = prove(Path(directory), options.tasks, options.waves, policy)
    text = table(proof)
    print(text)
    if options.publish:
        DOCS.write_text(MARKED.sub(lambda marks: f"{marks[1]}{text}{marks[2]}", DOCS.read_text()))
    return 1 if proof.faults else 0


def table(proof: Proof) -> str:
    """The outcome as Markdown."""
    stops = f"{proof.stopped_busy}; every stop took {proof.longest_stop_s:.1f} s at most"
    rows = {
        "tasks, answered, answered twice": f"{proof.tasks:,}, {proof.answered:,}, {proof.duplicates}",
        "workers": f"0 to {proof.workers} to 0; {proof.made} were started, one of them {LATE_S} s late",
        "stopped (SIGTERM) in the middle of batches": stops,
        "killed (kill -9)": str(proof.killed),
        "seconds, until the last worker was gone": f"{proof.seconds:.0f}",
        "what the workers there could have done, by what there was to do": f"{proof.capacity:.2f}",
        "ended with an error, outlived its grace, left entries behind": "; ".join(proof.faults) or "none",
    }
    said = f"{datetime.now(UTC):%Y-%m-%d}, {len(os.sched_getaffinity(0))} cores."
    return (
        "\n".join([said, "", "| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
