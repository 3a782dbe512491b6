"""The speed at which one worker drains a task stream: read, prepare, batch, encode, write, acknowledge.

The stream is filled at one blow, with short texts; the model costs nothing and gives 768-d vectors. What is
measured lies between a tenth and nine tenths of the entries, so neither the start nor the last, smaller batches count.
A thread's CPU is what the system charges it with. The far server is the same one behind a proxy that keeps every byte
for 38.5 ms in each direction; since the proxy itself costs some speed, it is compared with the proxy without a delay.

    python -m benchmarks.streams
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.report import arguments, show
from tests.clients import Client
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import wait_for
from tests.workers import COMMAND, Worker

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

MODELS = {"null": {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}}
TASKS, RESULTS = "embedding_tasks", "embedding_results"
ROUND_TRIP_S = 0.077
NEAR, PROXIED, FAR = "direct", "proxy, no delay", "proxy, 77 ms"
STAGES = {
    "stream-source": "read, parse, admit",
    "prep": "prepare",
    "engine-loop": "batch",
    "engine-cpu": "compute nothing",
    "engine-completions": "encode",
    "stream-writer": "pack, commit, settle",
}
OTHERS = "everything else"


@dataclass(frozen=True)
class Drained:
    """One run: the speed, and the CPU of each stage."""

    entries_per_s: float
    cpu_us: Mapping[str, float]
    """Microseconds an entry, by stage; the server's under its name."""


@dataclass(frozen=True)
class Moment:
    """Processor time spent, by moment."""

    at: float
    answered: int
    threads: Mapping[int, float]
    server_s: float

    @classmethod
    def now(cls, client: Client, worker: psutil.Process, server: psutil.Process) -> Moment:
        """Look."""
        answered = client.redis.xlen(RESULTS)
        threads = {each.id: each.user_time + each.system_time for each in worker.threads()}
        times = server.cpu_times()
        return cls(time.monotonic(), answered, threads, times.user + times.system)


FILL = """
for number = 1, tonumber(ARGV[1]) do
  redis.call('XADD', KEYS[1], '*', 'task_id', 't' .. number, 'text', 'the text of the task ' .. number)
end
"""


def measure(server: Server, url: str, count: int, threads: int, in_flight: int) -> Drained:
    """Let a new worker drain a full stream that it sees at `url`."""
    client = Client(server.url)
    client.redis.flushall()
    args = ("-c", str(threads), "-I", "benchmarks.threads")
    config = {"models": MODELS, "engine": {"max_in_flight": in_flight}}
    env = {
        "CELERY_CONFIG_MODULE": "benchmarks.profile",
        "CELERY_WORKER_LOGLEVEL": "WARNING",
        "OMP_NUM_THREADS": "1",  # a null model's maths gains nothing from threads that spin
    }
    with tempfile.TemporaryDirectory() as directory:
        worker = Worker(url, Path(directory), config, command=COMMAND, args=args, env=env)
        with worker:
            processes = psutil.Process(worker.pid), psutil.Process(int(client.redis.info("server")["process_id"]))
            wait_for(lambda: client.app.control.ping(timeout=0.5), 120, "the worker")
            client.redis.eval(FILL, 1, TASKS, count)
            wait_for(lambda: client.redis.xlen(RESULTS) > count / 10, 120, "the first results", interval=0.005)
            first = Moment.now(client, *processes)
            wait_for(lambda: client.redis.xlen(RESULTS) > count * 9 / 10, 300, "the results", interval=0.005)
            last = Moment.now(client, *processes)
            wait_for(lambda: client.redis.xlen(TASKS) == 0, 60, "an empty stream")
            assert client.redis.xlen(RESULTS) == count
            (names,) = client.app.control.inspect(timeout=3)._request("thread_names").values()  # noqa: SLF001
    return drained(first, last, {int(thread): name for thread, name in names.items()})


def drained(first: Moment, last: Moment, names: Mapping[int, str]) -> Drained:
    """The speed and the costs between two moments."""
    entries = last.answered - first.answered
    cpu = dict.fromkeys([*STAGES.values(), OTHERS], 0.0)
    for thread, spent in last.threads.items():
        name = names.get(thread, "")
        stage = next((stage for start, stage in STAGES.items() if name.startswith(start)), OTHERS)
        cpu[stage] += (spent - first.threads.get(thread, 0.0)) / entries * 1e6
    cpu["all of the worker"] = sum(cpu.values())
    cpu["the server"] = (last.server_s - first.server_s) / entries * 1e6
    return Drained(entries / (last.at - first.at), cpu)


def run(server: Server, side: str, options: Namespace) -> Drained:
    """Measure one side once."""
    if side == NEAR:
        return measure(server, server.url, options.entries, options.threads, options.in_flight)
    with Proxy(server.url, delay_s=ROUND_TRIP_S / 2 if side == FAR else 0.0) as proxy:
        return measure(server, proxy.url, options.entries, options.threads, options.in_flight)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--entries", type=int, default=120_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="-c of the worker")
    parser.add_argument("--in-flight", type=int, default=4096, help="engine.max_in_flight of the worker")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--near", action="store_true", help="without the proxy and the distance: for runs in turn")
    options = parser.parse_args()
    found: dict[str, list[Drained]] = {side: [] for side in ((NEAR,) if options.near else (NEAR, PROXIED, FAR))}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory, Server(options.server, Path(directory)) as server:
        for _ in range(options.runs):
            for side, runs in found.items():
                runs.append(run(server, side, options))
    speeds = {side: [each.entries_per_s for each in runs] for side, runs in found.items()}
    rows = [
        {"server": side, "entries/s": statistics.median(each), "min": min(each), "max": max(each)}
        for side, each in speeds.items()
    ]
    best = max(found[NEAR], key=lambda each: each.entries_per_s)
    summary = {f"us of CPU an entry, {stage}": spent for stage, spent in best.cpu_us.items()}
    if not options.near:
        summary["77 ms / no delay"] = statistics.median(speeds[FAR]) / statistics.median(speeds[PROXIED])
    summary["load average before"] = load
    show(f"{options.entries:,} entries, one worker process, 768-d vectors", rows, summary, options.json)


if __name__ == "__main__":
    main()
