"""The whole worker over the bare model: what is left of a model's speed when a worker is around it.

Tasks wait in the task stream; the worker's speed is their number over the time from their arrival to the last result,
both by the server's clock. It notes its batches, and another process runs the same batches through the same models on
the same device with the same threads and nothing in between: that is the bare speed. The two take turns.

On the CPU: MiniLM over texts of the Python reference, of 1 to 200 words, as many of each order of magnitude. Prep and
Redis share its cores, so a second table says where the processor time went; the ratio of processor times is what the
wall clock would say on a machine that does nothing else. Where torch sees a GPU: EVA02-L-14 and MiniLM mixed, from
pixels that were decoded and resized beforehand, and from JPEG files.

    python -m benchmarks.bare
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from PIL import Image

from benchmarks import minilm
from benchmarks.probe import ask
from benchmarks.recording import CLIP, ENCODER
from benchmarks.report import arguments, show
from tests.clients import Client
from tests.images import PHOTOS, encoded, photo
from tests.servers import Server
from tests.texts import texts
from tests.waiting import wait_for
from tests.workers import COMMAND, ROOT, Worker

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

RESULTS, TASKS = "embedding_results", "embedding_tasks"
JPEG = "JPEG 640x480"
SOURCES = {"pixels": ("decoded pixels", 0.95), "jpeg": (JPEG, 0.90)}
"""The forms in which the images come, and the goals."""
DEVICE_THREADS = "the model"
ALONE = "(the bare model)"
PARTS = {
    "prep-": "preparation",
    "engine-loop": "device loop",
    "engine-completions": "answers",
    "stream-writer": "writing results",
    "stream-": "reading the stream",
    "MainThread": "Celery",
}
NOT_MEASURED = "not measured: no GPU"


@dataclass
class Case:
    """One row."""

    name: str
    device: str
    goal: float
    models: dict[str, dict[str, Any]]
    texts: int
    images: int = 0
    source: str = ""
    worker: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    """Processor milliseconds per item, by part of the worker."""

    @property
    def items(self) -> int:
        """The number of tasks."""
        return self.texts + self.images


class BareSide:
    """The process without the worker."""

    def __init__(self, settings: dict[str, Any], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.recording", json.dumps(settings)],
            cwd=ROOT,
            env=os.environ | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, note: Path) -> dict[str, float]:
        """Run a note's batches."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{note}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the bare side has ended"
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


@contextmanager
def both_sides(case: Case, options: Namespace) -> Iterator[Callable[[], None]]:
    """Start a worker and its bare counterpart; what comes out measures each once."""
    with tempfile.TemporaryDirectory() as folder, Server("valkey", Path(folder) / "server") as server:
        here, client = Path(folder), Client(server.url)
        settings = {
            "models": case.models,
            "device": case.device,
            "image_roots": [folder],
            "engine": {"compile": options.compile},
        }
        tasks = mixed(case, here, options)
        same = {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
        # As the worker itself does, if no module that a benchmark adds has imported torch before it.
        env = same | {"CELERY_CONFIG_MODULE": "benchmarks.profile", "OMP_WAIT_POLICY": "PASSIVE"}
        args = ("-c", str(options.prep_threads), "-I", "benchmarks.threads,benchmarks.recording")
        with Worker(server.url, here / "worker", settings, command=COMMAND, args=args, env=env) as worker:
            wait_for(lambda: client.app.control.ping(timeout=1, limit=1), 600, "the worker")
            bare = BareSide(settings, same)
            try:
                pour(client, tasks[: len(tasks) // 10])  # tokenizers, transforms, first batches
                yield lambda: measure(case, client, worker, bare, tasks, here / "note")
            finally:
                bare.close()


def mixed(case: Case, folder: Path, options: Namespace) -> list[dict[str, str]]:
    """The case's tasks, its images evenly among its texts."""
    tasks = [{"text": text} for text in texts(case.texts, 1, options.words)]
    if not case.images:
        return tasks
    paths = cycle(image_files(case, folder))
    images = [{"image_path": str(path)} for path in islice(paths, case.images)]
    placed = sorted(
        [((n + 0.5) / len(tasks), n, task) for n, task in enumerate(tasks)]
        + [((n + 0.5) / len(images), n, task) for n, task in enumerate(images)],
        key=lambda each: each[:2],
    )
    return [task for _, _, task in placed]


def image_files(case: Case, folder: Path) -> list[Path]:
    """The photos, as JPEG files or as the model's pixels."""
    from legit_embedding.config import ModelConfig
    from legit_embedding.models.open_clip import OpenClipModel

    config = ModelConfig(**case.models["images"] | {"backend": "open_clip"})
    recipe = OpenClipModel("images", config).recipe()
    paths = []
    for name in PHOTOS:
        path = folder / f"{name}.file"
        data = encoded(photo(name).resize((640, 480), Image.Resampling.LANCZOS), "JPEG", quality=85)
        path.write_bytes(data if case.source == JPEG else recipe.image(data, 1 << 26).array.tobytes())
        paths.append(path)
    return paths


def pour(client: Client, tasks: list[dict[str, str]]) -> float:
    """All tasks into the stream at once; the seconds until the last result."""
    client.redis.delete(RESULTS)
    with client.redis.pipeline(transaction=True) as pipe:
        pipe.time()
        for task in tasks:
            pipe.xadd(TASKS, task)
        seconds, microseconds = pipe.execute()[0]
    wait_for(lambda: client.redis.xlen(RESULTS) >= len(tasks), 600, f"{len(tasks)} results", interval=0.1)
    entries = client.redis.xrevrange(RESULTS, count=len(tasks))
    failed = [fields for _, fields in entries if fields[b"status"] != b"ok"]
    assert not failed, failed[0]
    return int(entries[0][0].split(b"-")[0]) / 1000 - seconds - microseconds / 1e6


def measure(
    case: Case, client: Client, worker: Worker, bare: BareSide, tasks: list[dict[str, str]], note: Path
) -> None:
    """One run of each side."""
    control = client.app.control
    control.broadcast("record", reply=True, timeout=10)
    before = processor_s(worker, client)
    seconds = pour(client, tasks)
    after = processor_s(worker, client)
    control.broadcast("save_record", arguments={"path": str(note)}, reply=True, timeout=60, limit=1)
    alone = bare.run(note)
    case.worker.append(len(tasks) / seconds)
    case.bare.append(len(tasks) / alone["seconds"])
    case.ratios.append(alone["seconds"] / seconds)
    spent = {part: after[part] - before.get(part, 0.0) for part in after}
    for part, part_s in (spent | {ALONE: alone["processor_s"]}).items():
        case.parts.setdefault(part, []).append(1000 * part_s / len(tasks))


def processor_s(worker: Worker, client: Client) -> dict[str, float]:
    """Processor seconds so far, by part."""
    names = {int(number): name for number, name in ask(client.app.control, "thread_names").items()}
    spent: dict[str, float] = {}
    for thread in psutil.Process(worker.pid).threads():
        part = next((part for start, part in PARTS.items() if names.get(thread.id, "").startswith(start)), "")
        # The threads without a Python name are torch's own.
        part = part or (DEVICE_THREADS if names.get(thread.id, "engine-cpu") == "engine-cpu" else "other threads")
        spent[part] = spent.get(part, 0.0) + thread.user_time + thread.system_time
    times = psutil.Process(client.redis.info("server")["process_id"]).cpu_times()
    return spent | {"the Redis server": times.user + times.system}


def cases(options: Namespace) -> list[Case]:
    """The cases that can be measured here."""
    found = []
    encoder = minilm.settings(options.text_model) | {"backend": ENCODER}
    if not options.only_gpu:
        found.append(Case("MiniLM", "cpu", 0.85, {"texts": encoder}, options.texts))
    device = "cuda:0" if torch.cuda.is_available() else options.instead_of_a_gpu
    if device:
        images = {"kind": "image", "backend": CLIP, "name": options.image_model, "pretrained": "random:0"}
        for source, goal in SOURCES.values():
            name = f"{options.image_model} and MiniLM, {source}"
            models = {"images": images, "texts": encoder}
            found.append(Case(name, device, goal, models, options.gpu_texts, options.gpu_images, source))
        found = [case for case in found if case.source in {"", *(SOURCES[each][0] for each in options.sources)}]
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--words", type=int, default=200, help="of the longest text")
    parser.add_argument("--texts", type=int, default=500, help="on the CPU")
    parser.add_argument("--gpu-texts", type=int, default=4000)
    parser.add_argument("--gpu-images", type=int, default=8000)
    parser.add_argument("--image-model", default="EVA02-L-14", help="with random weights")
    parser.add_argument("--prep-threads", type=int, default=len(os.sched_getaffinity(0)), help="the worker's -c")
    parser.add_argument(
        "--threads",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="that compute a CPU batch, on both sides",
    )
    parser.add_argument("--compile", action="store_true", help="compile the models, on both sides")
    minilm.add_option(parser)
    parser.add_argument("--only-gpu", action="store_true")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=[*SOURCES], help="of the images, on a GPU")
    parser.add_argument("--instead-of-a-gpu", default="", metavar="DEVICE", help="where there is none, to try it out")
    options = parser.parse_args()
    started = time.monotonic()
    found = cases(options)
    for case in found:
        with both_sides(case, options) as run:
            for _ in range(options.runs):
                run()
    rows = [row(case) for case in found]
    if not torch.cuda.is_available():
        rows += [
            {"": f"EVA02-L-14 and MiniLM, {source}, bf16", "device": NOT_MEASURED, "goal": f"{goal:.2f}"}
            for source, goal in SOURCES.values()
        ]
    summary = {f"worker / bare, {case.name} on {case.device}": statistics.median(case.ratios) for case in found}
    summary |= {f"the same, by processor time, {case.name} on {case.device}": frugality(case) for case in found}
    summary |= {"load average at the end": os.getloadavg()[0], "seconds": time.monotonic() - started}
    compiled = "compiled" if options.compile else "not compiled"
    show(f"The worker over the bare model, {compiled}, median of {options.runs}", rows, summary, options.json)
    for case in found:
        parts = [{"part": part, "ms an item": f"{np.median(each):.3f}"} for part, each in sorted(case.parts.items())]
        path = options.json and options.json.with_suffix(f".{case.device.replace(':', '')}-{case.source[:4]}.json")
        show(f"{case.name} on {case.device}: processor time", parts, {}, path)


def frugality(case: Case) -> float:
    """The bare model's processor time over all that the worker and its server take: steadier on a busy machine."""
    middle = {part: statistics.median(each) for part, each in case.parts.items()}
    return middle.pop(ALONE) / sum(middle.values())


def row(case: Case) -> dict[str, Any]:
    """The case's line of the table."""
    ratio = statistics.median(case.ratios)
    return {
        "": case.name,
        "device": torch.cuda.get_device_name(0) if case.device.startswith("cuda") else case.device,
        "goal": f"{case.goal:.2f}",
        "worker / bare": f"{ratio:.3f}",
        "min": f"{min(case.ratios):.3f}",
        "max": f"{max(case.ratios):.3f}",
        "worker, items/s": statistics.median(case.worker),
        "bare, items/s": statistics.median(case.bare),
    }


if __name__ == "__main__":
    main()
