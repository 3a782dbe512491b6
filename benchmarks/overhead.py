"""The cost of the pool: a null embedding task on `gpubatch` over a no-op task on Celery's `threads`.

Both workers drain a queue that was filled before, so that the producer's speed does not matter; the pairs are run in
turn, and the ratio is of the medians. The embedding task does more: it is prepared, batched, "embedded" by a model
that costs nothing, written to its result stream with a 768-d vector and confirmed before it is acknowledged.

    python -m benchmarks.overhead
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.report import arguments, show
from tests.clients import PREPARE_TEXT, Client
from tests.servers import Server
from tests.waiting import wait_for
from tests.workers import Worker

QUEUE = "bench"
MODELS = {"null": {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}}
SIDES = {"threads, no-op task": ("threads", "tests.tasks.noop"), "gpubatch, null embedding": ("gpubatch", PREPARE_TEXT)}


def drain_seconds(client: Client) -> float:
    """Let the worker consume the filled queue; returns the seconds until everything is acknowledged."""
    started = time.monotonic()
    client.app.control.add_consumer(QUEUE)
    wait_for(
        lambda: client.redis.llen(QUEUE) == 0 and client.redis.hlen("unacked") == 0, 300, "the queue", interval=0.01
    )
    return time.monotonic() - started


def fill(client: Client, name: str, count: int, *, ignore_result: bool) -> None:
    """Put tasks into the queue that no worker consumes yet."""
    with client.app.producer_pool.acquire(block=True) as producer:
        for number in range(count):
            args = ({"task_id": f"t{number}", "text": "x"},) if name == PREPARE_TEXT else ()
            client.app.send_task(name, args=args, producer=producer, queue=QUEUE, ignore_result=ignore_result)


def measure(server: Server, pool: str, name: str, count: int, *, ignore_result: bool, threads: int) -> float:
    """Tasks a second of one worker on one filled queue."""
    client = Client(server.url)
    client.redis.flushall()
    fill(client, name, count, ignore_result=ignore_result)
    command = ("-m", "celery", "-A", "legit_embedding", "worker", f"--pool={pool}", "-c", str(threads))
    env = {"CELERY_CONFIG_MODULE": "benchmarks.profile", "CELERY_WORKER_LOGLEVEL": "WARNING"}
    with tempfile.TemporaryDirectory() as directory:
        worker = Worker(server.url, Path(directory), {"models": MODELS}, command=command, env=env)
        with worker:
            wait_for(lambda: client.app.control.ping(timeout=0.5), 60, "the worker")
            seconds = drain_seconds(client)
    return count / seconds


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=8000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=8, help="-c of both workers")
    options = parser.parse_args()
    rows, summary = [], {}
    with tempfile.TemporaryDirectory() as directory, Server("valkey", Path(directory)) as server:
        for results in ("without results", "with results"):
            speeds: dict[str, list[float]] = {side: [] for side in SIDES}
            for _ in range(options.runs):
                for side, (pool, name) in SIDES.items():
                    ignore = results == "without results"
                    speed = measure(server, pool, name, options.tasks, ignore_result=ignore, threads=options.threads)
                    speeds[side].append(speed)
            medians = {side: statistics.median(each) for side, each in speeds.items()}
            for side, each in speeds.items():
                rows.append(
                    {"worker": side, "results": results, "tasks/s": medians[side], "min": min(each), "max": max(each)}
                )
            threads_speed, gpubatch_speed = medians.values()
            summary[f"gpubatch / threads, {results}"] = gpubatch_speed / threads_speed
    show(f"Cost of the pool: {options.tasks} tasks, -c {options.threads}", rows, summary, options.json)


if __name__ == "__main__":
    main()
