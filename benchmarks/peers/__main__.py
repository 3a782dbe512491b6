"""This worker among its peers, on one corpus and one model.

Each peer runs in an environment of its own, which the command makes in `.peers/` (about 10 GB, most of it torch), with
the same MiniLM weights, the same number of threads and fp32. They take turns; the table has medians. `--markdown FILE`
prints the table of an earlier run's JSON, to paste into docs/decisions/0001-serving-substrate.md.

    python -m benchmarks.peers --json peers.json
    python -m benchmarks.peers --markdown peers.json
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.environments import python_of
from benchmarks.peers.models import clip_folder, minilm_folder
from benchmarks.peers.peers import OURS, PEERS, Setup
from benchmarks.peers.run import Corpora, run
from benchmarks.peers.table import markdown, report
from benchmarks.report import arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers.peers import Peer


def chosen(names: Sequence[str]) -> list[Peer]:
    """The peers whose names contain one of these; all, where there is none."""
    return [peer for peer in PEERS if not names or any(name.lower() in peer.name.lower() for name in names)]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = arguments(__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--turns", type=int, default=3)
    made.add_argument("--texts", type=int, default=300, help="of 1 to 200 words, log-uniform")
    made.add_argument("--equal", type=int, default=150, help="texts of 40 words each")
    made.add_argument("--photos", type=int, default=32, help="JPEG files of 640x480; 0: none")
    made.add_argument("--kills", type=int, default=1, help="of each peer that keeps its tasks in Redis")
    made.add_argument("--half-load-s", type=float, default=8.0, help="for how long tasks come at half the speed")
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of torch, in every peer")
    made.add_argument("--seed", type=int, default=17)
    made.add_argument("--only", nargs="+", default=[], metavar="NAME", help="peers whose names contain one of these")
    made.add_argument("--prepare", action="store_true", help="make the environments, and measure nothing")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="print the table of an earlier run's JSON")
    return made


def main() -> None:
    options = parser().parse_args()
    if options.markdown:
        print(markdown(json.loads(options.markdown.read_text())))
        print("\nIts place: docs/decisions/0001-serving-substrate.md, under 'The evidence'.", file=sys.stderr)
        return
    peers = chosen(options.only)
    for environment in {peer.environment for peer in peers} - {OURS}:
        python_of(environment)
    if options.prepare:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave no peer behind
    started, load = time.monotonic(), os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="peers") as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        corpora = Corpora.made(options, photos)
        models = {"text": minilm_folder(), "image": clip_folder(options.seed) if options.photos else Path()}
        setup = Setup(models, photos, options.threads)
        found = run(peers, corpora, setup, options, Path(folder))
    report(found, options, load, time.monotonic() - started)


if __name__ == "__main__":
    main()
