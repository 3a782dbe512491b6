"""The throughput of 1, 2, 4 and more workers on one server, and what the server spends on an entry.

The model's device is a pause: 200 items per second and worker, or `--rate`, so that what is compared is the fleet and
not the cores; how many of them were busy stands beside each figure. The stream is filled at one blow; what is measured
lies between a tenth and nine tenths of the entries. With the null model, which costs nothing, the cores of the workers
are the limit; the server's own processor time per entry says where its limit would be. Round trips and bytes are those
that the server counts.

    python -m benchmarks.fleet --rate 100 --plot docs/scaling.svg
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.report import arguments, show
from benchmarks.streams import FILL, RESULTS, TASKS
from tests.clients import Client
from tests.fleet.proof import ARGS, BATCH, CONFIG, RATE
from tests.servers import Server
from tests.waiting import wait_for
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

ENTRIES_S = 12
"""The length of each run at the ideal rate, in seconds."""


@dataclass(frozen=True)
class Drained:
    """One run: how fast, and at what cost to the server."""

    workers: int
    entries_per_s: float
    server_us: float
    """Processor time of the server, in microseconds per entry."""
    commands: float
    """Commands that the server ran, per entry."""
    bytes_in: float
    bytes_out: float
    task_bytes: float
    """Memory of a short text that waits in the stream."""
    cores: float
    """Cores of this machine that were busy, with whatever."""


@dataclass(frozen=True)
class Moment:
    """The server's counters at one moment."""

    at: float
    answered: int
    cpu_s: float
    commands: int
    bytes_in: int
    bytes_out: int
    busy_s: float
    """Processor time of the whole machine."""

    @classmethod
    def now(cls, client: Client) -> Moment:
        """Look."""
        info: dict[str, Any] = client.redis.info("all")
        cpu = info["used_cpu_user"] + info["used_cpu_sys"]
        counts = (info["total_commands_processed"], info["total_net_input_bytes"], info["total_net_output_bytes"])
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - times.iowait
        return cls(time.monotonic(), client.redis.xlen(RESULTS), cpu, *counts, busy)


def measure(server: Server, workers: int, rate: float) -> Drained:
    """Let so many workers, of so many items per second each, drain a full stream."""
    client = Client(server.url)
    client.redis.flushall()
    count = int(ENTRIES_S * rate * workers)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleet = [stack.enter_context(_worker(server, directory, number, rate)) for number in range(workers)]
        for worker in fleet:
            worker.wait_ready(300)
        empty = int(client.redis.info("memory")["used_memory"])
        client.redis.eval(FILL, 1, TASKS, count)
        task_bytes = (int(client.redis.info("memory")["used_memory"]) - empty) / count
        wait_for(lambda: client.redis.xlen(RESULTS) > count / 10, 300, "the first results", interval=0.02)
        first = Moment.now(client)
        wait_for(lambda: client.redis.xlen(RESULTS) > count * 0.9, 300, "the results", interval=0.02)
        last = Moment.now(client)
        wait_for(lambda: client.redis.xlen(TASKS) == 0, 120, "an empty stream")
        assert client.redis.xlen(RESULTS) == count
    entries = last.answered - first.answered
    return Drained(
        workers,
        entries / (last.at - first.at),
        (last.cpu_s - first.cpu_s) / entries * 1e6,
        (last.commands - first.commands) / entries,
        (last.bytes_in - first.bytes_in) / entries,
        (last.bytes_out - first.bytes_out) / entries,
        task_bytes,
        (last.busy_s - first.busy_s) / (last.at - first.at),
    )


def _worker(server: Server, directory: Path, number: int, rate: float) -> Worker:
    (null,) = CONFIG["models"].values()
    slower = null | {"options": null["options"] | {"batch_s": BATCH / rate}}
    config = CONFIG | {"models": {"null": slower}}
    name = f"worker-{number}"
    env = {"LEGIT_WORKER_ID": name, "OMP_NUM_THREADS": "1", "CELERY_WORKER_LOGLEVEL": "INFO"}
    return Worker(server.url, directory / name, config, args=(*ARGS, "-n", f"{name}@fleet"), env=env)


def plot(found: Sequence[Drained], rate: float) -> str:
    """The curve as SVG, beside the ideal."""
    width, height, left, top = 640, 400, 70, 20
    most = max(each.workers for each in found)
    high = rate * most

    def at(workers: float, entries_per_s: float) -> str:
        x = left + workers / most * (width - left - 30)
        return f"{x:.0f},{height - 50 - entries_per_s / high * (height - 50 - top):.0f}"

    def text(point: str, words: str, anchor: str = "middle", below: int = 0) -> str:
        x, y = map(int, point.split(","))
        return f'<text x="{x}" y="{y + below}" text-anchor="{anchor}">{words}</text>'

    places = [at(each.workers, each.entries_per_s).split(",") for each in found]
    marks = [f'<circle cx="{x}" cy="{y}" r="5" fill="#1565c0"/>' for x, y in places]
    labels = [text(at(each.workers, 0), str(each.workers), below=20) for each in found]
    labels += [text(at(0, each.workers * rate), f"{each.workers * rate:,.0f}", "end", 4) for each in found]
    line = " ".join(at(each.workers, each.entries_per_s) for each in found)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
            'font-size="13" role="img" aria-label="Entries per second by number of workers">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<polyline points="{at(0, high)} {at(0, 0)} {at(most, 0)}" fill="none" stroke="#444"/>',
            f'<polyline points="{at(0, 0)} {at(most, high)}" fill="none" stroke="#999" stroke-dasharray="6 4"/>',
            f'<polyline points="{line}" fill="none" stroke="#1565c0" stroke-width="2"/>',
            *marks,
            *labels,
            text(at(most / 2, 0), "workers (dashed: the ideal); entries per second upwards", below=42),
            "</svg>\n",
        ]
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--rate", type=float, default=RATE, help="items per second of one worker")
    parser.add_argument("--plot", type=Path, help="write the curve to this SVG file")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory, Server(options.server, Path(directory)) as server:
        found = [measure(server, workers, options.rate) for workers in options.workers]
    alone = found[0].entries_per_s / found[0].workers
    rows = [
        {
            "workers": each.workers,
            "entries/s": each.entries_per_s,
            "of N times one": each.entries_per_s / each.workers / alone,
            "server us/entry": each.server_us,
            "commands/entry": each.commands,
            "bytes in": each.bytes_in,
            "bytes out": each.bytes_out,
            "busy cores": each.cores,
        }
        for each in found
    ]
    cheapest = min(each.server_us for each in found)
    summary = {
        "entries/s at which one core of the server is full, by its least cost": 1e6 / cheapest,
        "bytes of memory per waiting short text": found[-1].task_bytes,
        "cores": psutil.cpu_count(),
        "load average before": load,
    }
    show(f"Workers at {options.rate:.0f} items/s each on one {options.server}", rows, summary, options.json)
    if options.plot is not None:
        options.plot.write_text(plot(found, options.rate))


if __name__ == "__main__":
    main()
