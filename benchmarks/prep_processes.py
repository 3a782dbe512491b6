"""Images decoded by prep threads, and by prep processes behind them: images/s, and processor time for each image.

All configurations take turns in each round, over the same files, through the worker's own prep stage, which has as many
threads as the pipeline gives it. Processor time is that of the worker's own process, whose Python is one interpreter's,
and that of all processes together.

    python -m benchmarks.prep_processes
"""

from __future__ import annotations

import os
import statistics
import time
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import torch

from benchmarks.prep import MAX_PIXELS, files, through_threads
from benchmarks.report import arguments, show
from legit_embedding.models.config import ModelConfig
from legit_embedding.models.registry import Registry
from legit_embedding.prep.cpus import available_cpus
from legit_embedding.prep_processes.processes import PrepProcesses
from legit_embedding.prep_processes.recipe import ProcessRecipe
from tests.waiting import wait_for

if TYPE_CHECKING:
    from legit_embedding.models.backend import Recipe

MODELS = {"clip": ModelConfig(kind="image", backend="open_clip", name="ViT-B-32", pretrained="random:0")}
MAX_BYTES = 32 << 20
CONCURRENCY = 2
SHAPES = ((1920, 1080), (640, 480))
START_S = 30.0


class Side(NamedTuple):
    """One configuration."""

    name: str
    recipe: Recipe
    threads: int
    processes: PrepProcesses | None = None

    def processor_s(self) -> float:
        """The processor seconds of the processes so far."""
        times = [psutil.Process(pid).cpu_times() for pid in self.processes.pids] if self.processes else []
        return sum(each.user + each.system for each in times)


class Run(NamedTuple):
    """The figures of one run: images/s, and processor milliseconds for each image."""

    speed: float
    own_ms: float
    all_ms: float


def run(side: Side, datas: list[bytes]) -> Run:
    """Decode all the files."""

    def work(jobs: list[bytes]) -> None:
        for data in jobs:
            side.recipe.image(data, MAX_PIXELS)

    own, others = time.process_time(), side.processor_s()
    speed = through_threads(work, datas, side.threads, 1)
    own, others = time.process_time() - own, side.processor_s() - others
    return Run(speed, own / len(datas) * 1000, (own + others) / len(datas) * 1000)


def private_mb(side: Side) -> float:
    """The memory that a process has for itself, on average."""
    pids = side.processes.pids if side.processes else []
    return statistics.mean(psutil.Process(pid).memory_full_info().uss / 1e6 for pid in pids)


def sides(counts: list[int]) -> list[Side]:
    """The threads, and each number of processes, started."""
    recipe = Registry(MODELS).recipe("clip")
    made = [Side(f"threads {CONCURRENCY}", recipe, CONCURRENCY)]
    for count in counts:
        processes = PrepProcesses(MODELS, count, MAX_BYTES)
        processes.start()
        wait_for(lambda: len(processes.pids) == count, START_S, "the processes")  # noqa: B023
        side = ProcessRecipe(recipe, "clip", processes)
        made.append(Side(f"processes {count}", side, CONCURRENCY + count, processes))
    return made


def rows(made: list[Side], images: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each shape and side: medians over the rounds."""
    found = []
    for shape in SHAPES:
        datas = list(islice(cycle(files()[shape]), images))
        for side in made:
            run(side, datas[:16])
        runs: dict[str, list[Run]] = {side.name: [] for side in made}
        for _ in range(rounds):
            for side in made:
                runs[side.name].append(run(side, datas))
        threads = runs[made[0].name]
        for name, each in runs.items():
            ratios = [one.speed / other.speed for one, other in zip(each, threads, strict=True)]
            found.append(
                {
                    "image": f"{shape[0]}x{shape[1]}",
                    "prep": name,
                    "images/s": statistics.median(one.speed for one in each),
                    "over threads": f"{statistics.median(ratios):.2f}",
                    "min": f"{min(ratios):.2f}",
                    "max": f"{max(ratios):.2f}",
                    "CPU ms, worker": f"{statistics.median(one.own_ms for one in each):.2f}",
                    "CPU ms, all": f"{statistics.median(one.all_ms for one in each):.2f}",
                }
            )
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=200, help="of each shape, in each run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    before = os.getloadavg()[0]
    made = sides(options.processes)
    try:
        table = rows(made, options.images, options.rounds)
        own = {side.name: private_mb(side) for side in made if side.processes is not None}
    finally:
        for side in made:
            if side.processes is not None:
                side.processes.close()
    summary: dict[str, object] = {"torch": torch.__version__}
    summary |= {f"{name}: memory of each that it shares with no other, MB": mb for name, mb in own.items()}
    summary |= {"load average before": before, "at the end": os.getloadavg()[0]}
    show(f"Prep on {available_cpus()} cores, JPEGs to 224 px, median of {options.rounds}", table, summary, options.json)


if __name__ == "__main__":
    main()
