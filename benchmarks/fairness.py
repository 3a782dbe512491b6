"""One model's latency while another saturates the device, and how device time is shared.

The whole worker, with stand-ins for models: an image batch of 8 holds the device for 100 ms, a text batch of 16 for
25 ms. The flood comes by the task stream, all of it at once; the probes come by the Celery queue, one at a time, less
than their model's share of the device and at irregular moments. A probe's latency is from just before it is sent to its
result's own time in Redis. First the
probes alone, then the same probes beside the flood: what the flood may add to the 99th percentile is two of its
batches, one that computes and one that is staged behind it.

Shares are those of device time while both models have more than enough to do.

    python -m benchmarks.fairness
"""

from __future__ import annotations

import base64
import json
import os
import random
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import arguments, show
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT, Client
from tests.servers import Server
from tests.waiting import wait_for
from tests.workers import COMMAND, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS, TASKS = "embedding_results", "embedding_tasks"
IMAGE = base64.b64encode(b"not looked at").decode()
TASK = {"image": {"image_b64": IMAGE}, "text": {"text": "not looked at"}}
ENTRYPOINT = {"image": PREPARE_IMAGE, "text": PREPARE_TEXT}
BATCH = {"image": 8, "text": 16}
BATCH_S = {"image": 0.100, "text": 0.025}
OTHER = {"image": "text", "text": "image"}
HEAD_START_S = 1.0
"""The time that a flood runs before it counts."""
ALLOWED_BATCHES = 2
SHARE_TOLERANCE = 0.10


def models(weights: dict[str, float]) -> dict[str, Any]:
    """A stand-in for each kind."""
    return {
        kind: {
            "kind": kind,
            "backend": "legit_embedding.models.null:NullModel",
            "max_batch": BATCH[kind],
            "weight": weights[kind],
            "options": {"batch_s": BATCH_S[kind]},
        }
        for kind in BATCH
    }


@contextmanager
def worker(server: Server, folder: Path, weights: dict[str, float]) -> Iterator[Client]:
    """A worker that is ready, and its client."""
    client = Client(server.url)
    client.redis.flushall()
    env = {"CELERY_CONFIG_MODULE": "benchmarks.profile", "OMP_NUM_THREADS": "1"}
    with Worker(server.url, folder, {"models": models(weights)}, command=COMMAND, env=env):
        wait_for(lambda: client.app.control.ping(timeout=1, limit=1), 60, "the worker")
        for kind in BATCH:
            probe(client, kind, 0)
        client.wait_for_entries(len(BATCH))
        client.redis.delete(RESULTS)
        yield client


def flood(client: Client, counts: dict[str, int]) -> None:
    """So many tasks of each kind into the stream, all at once."""
    payloads = {kind: json.dumps(task) for kind, task in TASK.items()}
    with client.redis.pipeline(transaction=True) as pipe:
        for kind, count in counts.items():
            for _ in range(count):
                pipe.xadd(TASKS, {"payload": payloads[kind]})
        pipe.execute()


def probe(client: Client, kind: str, number: int) -> None:
    """One task that notes when it was sent."""
    client.send(
        ENTRYPOINT[kind],
        {"task_id": f"probe-{number}", "metadata": {"sent": time.time()}} | TASK[kind],
        ignore_result=True,
    )


def latencies(client: Client, kind: str, probes: int, gap_s: float, flooded: bool) -> list[float]:
    """The time of each probe, in milliseconds."""
    client.redis.delete(RESULTS)
    chance = random.Random(probes)
    if flooded:
        seconds = HEAD_START_S + 1.3 * probes * gap_s
        flood(client, {OTHER[kind]: int(seconds / BATCH_S[OTHER[kind]]) * BATCH[OTHER[kind]]})
        time.sleep(HEAD_START_S)
    for number in range(probes):
        probe(client, kind, number)
        time.sleep(gap_s * chance.uniform(0.75, 1.25))
    left = client.redis.xlen(TASKS)
    assert left or not flooded, "the flood was over before the probes were"
    found: dict[bytes, float] = {}

    def answered() -> bool:
        for entry_id, fields in client.redis.xrange(RESULTS):
            if fields[b"task_id"].startswith(b"probe-"):
                written = int(entry_id.split(b"-")[0])
                found[fields[b"task_id"]] = written - 1000 * json.loads(fields[b"metadata"])["sent"]
        return len(found) == probes

    wait_for(answered, 60, "the probes", interval=0.2)
    wait_for(lambda: client.redis.xlen(TASKS) == 0, 60, "the end of the flood", interval=0.1)
    return list(found.values())


def share(client: Client, seconds: float) -> float:
    """The texts' part of the device time while both models have work."""
    client.redis.delete(RESULTS)
    counts = {kind: int(seconds / BATCH_S[kind]) * BATCH[kind] for kind in BATCH}
    flood(client, counts)
    wait_for(lambda: client.redis.xlen(RESULTS) >= sum(counts.values()), 120, "all results", interval=0.2)
    entries = [(int(entry_id.split(b"-")[0]), fields[b"kind"].decode()) for entry_id, fields in _entries(client)]
    first = entries[0][0] + 1000 * HEAD_START_S
    last = min(max(written for written, kind in entries if kind == each) for each in BATCH)
    items = Counter(kind for written, kind in entries if first <= written <= last)
    used = {kind: items[kind] / BATCH[kind] * BATCH_S[kind] for kind in BATCH}
    return used["text"] / sum(used.values())


def _entries(client: Client) -> list[tuple[bytes, dict[bytes, bytes]]]:
    entries: list[tuple[bytes, dict[bytes, bytes]]] = client.redis.xrange(RESULTS)
    return entries


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--probes", type=int, default=150, help="texts; of images, a quarter")
    parser.add_argument(
        "--gap", type=float, default=0.06, help="seconds between two texts on average; of images, thrice"
    )
    parser.add_argument("--share-s", type=float, default=5.0, help="seconds of device time that each model has waiting")
    options = parser.parse_args()
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory, Server("valkey", Path(directory) / "server") as server:
        for number, (image_weight, text_weight) in enumerate(((1.0, 1.0), (1.0, 3.0))):
            weights = {"image": image_weight, "text": text_weight}
            with worker(server, Path(directory) / f"worker-{number}", weights) as client:
                if image_weight == text_weight:
                    for kind, fewer, slower in (("text", 1, 1), ("image", 4, 5)):
                        found = measured(client, kind, options.probes // fewer, options.gap * slower)
                        rows += found.pop("rows")
                        summary |= found
                wanted = text_weight / sum(weights.values())
                got = share(client, options.share_s)
                summary[f"texts' share of device time at weights {image_weight:g}:{text_weight:g}"] = got
                summary[f"... over their due {wanted:.2f} (goal: within {SHARE_TOLERANCE:.0%})"] = got / wanted
    summary |= {"load average at the end": os.getloadavg()[0], "seconds": time.monotonic() - started}
    show("Latency of one model beside another's flood, whole worker", rows, summary, options.json)


def measured(client: Client, kind: str, probes: int, gap_s: float) -> dict[str, Any]:
    """Two rows, and what they come to."""
    other = OTHER[kind]
    idle, beside = (latencies(client, kind, probes, gap_s, flooded) for flooded in (False, True))
    allowed = 1000 * ALLOWED_BATCHES * BATCH_S[other]
    rows = [
        {"": f"{kind}s, {name}", "probes": str(probes)}
        | {f"p{part}, ms": float(np.percentile(found, part)) for part in (50, 99)}
        for name, found in (("alone", idle), (f"beside a flood of {other}s", beside))
    ]
    added = rows[1]["p99, ms"] - rows[0]["p99, ms"]
    return {"rows": rows, f"ms that a flood of {other}s adds to {kind}s' p99 (at most {allowed:.0f})": added}


if __name__ == "__main__":
    main()
