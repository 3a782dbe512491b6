"""The HTTP door beside infinity's server and a service that one writes in an afternoon.

Clients ask for the vector of one text at a time (1 to 200 words, lengths log-uniform), each over a connection of its
own, by OpenAI's API. Servers take turns, with the same MiniLM, the same threads and fp32, each in an environment of its
own; the table has medians. The bare model is sentence-transformers' `encode` over the same texts as one list. The
clients run on the same cores as the server.

    python -m benchmarks.http --json http.json
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.http.load import Run, run, vectors
from benchmarks.http.servers import NULL_SERVERS, OURS, SERVERS
from benchmarks.peers.corpus import mixed_texts
from benchmarks.peers.environments import python_of
from benchmarks.peers.models import minilm_folder
from benchmarks.report import arguments, show

if TYPE_CHECKING:
    from argparse import Namespace

    from benchmarks.http.servers import HttpServer

CLIENTS = (1, 8, 64, 256)
COMPARED = 64
BARE = """
import sys, time, json
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
texts = json.load(sys.stdin)
model.encode(texts[:64], batch_size=32, show_progress_bar=False)
started = time.perf_counter()
model.encode(texts, batch_size=32, show_progress_bar=False)
print(len(texts) / (time.perf_counter() - started))
"""
"""`encode` sorts the whole list by length, which no server can: it is the most that the model gives."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--warm-s", type=float, default=2.0, help="before each")
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    for server in (*SERVERS, *NULL_SERVERS):
        if server.environment != OURS:
            python_of(server.environment)
    load, started = os.getloadavg()[0], time.monotonic()
    texts = mixed_texts(options.texts, 17)
    found: dict[tuple[str, int], list[Run]] = {}
    bare: list[float] = []
    for _ in range(options.turns):
        bare.append(_bare(texts, options.threads))
        for server in (*SERVERS, *NULL_SERVERS):
            _measure(server, texts, options, found)
    rows = [_row(name, clients, runs) for (name, clients), runs in sorted(found.items(), key=lambda item: item[0][1])]
    summary = _ratios(found, statistics.median(bare), max(options.clients))
    title = f"HTTP, load {load:.1f} before, {time.monotonic() - started:.0f} s"
    show(title, rows, summary, options.json)


def _bare(texts: list[str], threads: int) -> float:
    python = str(python_of("fastapi"))
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-c", BARE, str(minilm_folder())],
        input=json.dumps(texts),
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def _measure(server: HttpServer, texts: list[str], options: Namespace, found: dict[tuple[str, int], list[Run]]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="http") as name,
        server.running(minilm_folder(), options.threads, Path(name)) as port,
    ):
        _check(server, port, texts)
        for clients in options.clients:
            made = run(port, "minilm", texts, clients, options.warm_s, options.seconds)
            print(f"{server.name}, {clients} clients: {made.per_s:.1f}/s", file=sys.stderr)
            found.setdefault((server.name, clients), []).append(made)


def _check(server: HttpServer, port: int, texts: list[str]) -> None:
    """Raise unless the server's vectors are those of the first server asked: nobody is fast by being wrong."""
    few = np.array(vectors(port, "minilm", texts[:8]))
    few /= np.linalg.norm(few, axis=1, keepdims=True)
    known = _KNOWN.setdefault(few.shape[1] if not server.null else 0, few)
    assert server.null or np.sum(known * few, axis=1).min() > 0.9999, server.name


_KNOWN: dict[int, Any] = {}


def _row(name: str, clients: int, runs: list[Run]) -> dict[str, Any]:
    return {
        "server": name,
        "clients": clients,
        "texts/s": statistics.median(each.per_s for each in runs),
        "least": min(each.per_s for each in runs),
        "most": max(each.per_s for each in runs),
        "p50 ms": statistics.median(each.quantile(0.5) for each in runs),
        "p99 ms": statistics.median(each.quantile(0.99) for each in runs),
    }


def _ratios(found: dict[tuple[str, int], list[Run]], bare: float, most: int) -> dict[str, float]:
    def speed(server: HttpServer, clients: int) -> float:
        return statistics.median(each.per_s for each in found[server.name, clients])

    clients = COMPARED if (SERVERS[0].name, COMPARED) in found else most
    ours, *others = (speed(each, clients) for each in SERVERS)
    null, other = (speed(each, clients) for each in NULL_SERVERS)
    return {
        "bare model, texts/s": bare,
        f"ours over the bare model, {clients} clients (goal 0.85)": ours / bare,
        f"ours over the best other server, {clients} clients (goal 1)": ours / max(others),
        f"null model over FastAPI without a model, {clients} clients": null / other,
    }


if __name__ == "__main__":
    main()
