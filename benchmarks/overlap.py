"""Writing while the device computes: what the old fleet's serial loop lost, on a far Redis.

A stand-in for a device takes 530 ms a batch of 16 and releases the GIL; the streams are behind a proxy whose round
trip is 77 ms, so that 16 XADDs one after the other take 1,235 ms, as they did in the fleet that this worker replaces.
The old side is that fleet's embed worker, which computes, writes and acknowledges in turn. The new side is the whole
worker, task stream in and result stream out, with one copy of the model; and again on a slow link, where each write of
a batch takes 1,235 ms however many are on their way. Brokers are near for everybody.

The speed is that of the results' own times, in whole batches, the first of each run left out. Before the runs that
count there is a short one, in which connections are made: on such links that takes seconds.

    python -m benchmarks.overlap
"""

from __future__ import annotations

import base64
import json
import os
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.legacy_fleet.fleet import Fleet
from benchmarks.probe import ask
from benchmarks.report import arguments, show
from tests.clients import PREPARE_IMAGE, Client
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import wait_for
from tests.workers import COMMAND, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

BATCH, BATCH_S = 16, 0.530
ROUND_TRIP_S = 0.077
WRITE_S = 1.235
"""The round trips of a batch's write: 16, and one on the slow link."""
DEVICE = BATCH / BATCH_S
SERIAL = BATCH / (BATCH_S + WRITE_S)
MOST_IN_FLIGHT = 4
MODELS = {
    "stand-in": {
        "kind": "image",
        "backend": "legit_embedding.models.null:NullModel",
        "max_batch": BATCH,
        "options": {"batch_s": BATCH_S},
    }
}
RESULTS, TASKS = "embedding_results", "embedding_tasks"
SKIPPED = 3
WARM_UP_BATCHES = 6
PAUSE_S = 0.2
"""Results this far apart belong to different batches."""
IMAGE = base64.b64encode(b"not looked at").decode()


@dataclass
class Side:
    """One row of the table."""

    name: str
    client: Client
    batches: int
    speeds: list[float] = field(default_factory=list)
    unwritten: int = BATCH
    """The most answers that were not confirmed at once; the old fleet has a batch of them."""
    commits: int = 1
    """The most commits that were on their way at once."""
    copies: int = 1


def entry_times(client: redis.Redis) -> list[float]:
    """When each result was written, by the server's clock, in seconds."""
    return [int(entry_id.split(b"-")[0]) / 1000 for entry_id, _ in client.xrange(RESULTS)]


def speed(times: list[float]) -> float:
    """Items a second over whole batches: from the end of the third batch to the end of the last but one."""
    ends = [number for number, (one, other) in enumerate(pairwise(times)) if other - one > PAUSE_S]
    first, last = ends[SKIPPED - 1], ends[-1]
    return (last - first) / (times[last] - times[first])


def fill_stream(side: Side, count: int) -> None:
    """All tasks of a run at once, so that the worker's first batch is not the only small one."""
    payload = json.dumps({"image_b64": IMAGE})
    with side.client.redis.pipeline(transaction=True) as pipe:
        for _ in range(count):
            pipe.xadd(TASKS, {"payload": payload})
        pipe.execute()


def fill_queue(side: Side, count: int) -> None:
    """The same for the old fleet's prep worker."""
    side.client.app.conf.task_default_queue = "legacy_prep"
    tasks = ({"task_id": f"t{number}", "image_b64": IMAGE} for number in range(count))
    side.client.send_all((PREPARE_IMAGE, task) for task in tasks)


def warm_up(side: Side) -> None:
    """Make the connections that a run needs."""
    fill_stream(side, WARM_UP_BATCHES * BATCH)
    wait_for(lambda: side.client.redis.xlen(RESULTS) >= WARM_UP_BATCHES * BATCH, 120, f"results of the {side.name}")


def run(side: Side, *, old: bool) -> None:
    """One run, appended to the side's speeds."""
    count = side.batches * BATCH
    side.client.redis.delete(RESULTS)
    (fill_queue if old else fill_stream)(side, count)
    watch = Watch(side, idle=old)
    wait_for(lambda: side.client.redis.xlen(RESULTS) >= count, 120, f"results of the {side.name}")
    watch.stop()
    side.speeds.append(speed(entry_times(side.client.redis)))


class Watch:
    """Looks again and again how much a worker is writing."""

    def __init__(self, side: Side, *, idle: bool) -> None:
        self._side = side
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        if not idle:
            self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _look(self) -> None:
        side = self._side
        while not self._over.wait(0.05):
            seen = ask(side.client.app.control, "unwritten")
            side.unwritten = max(side.unwritten, seen["answers"])
            side.commits = max(side.commits, seen["commits"])


def sides(stack: ExitStack, directory: Path, batches: tuple[int, int]) -> Iterator[Side]:
    """Start everything: servers, proxies and workers, each pair of its own."""
    enter = stack.enter_context
    for name, round_trip, count in (
        ("old fleet: compute, then write", ROUND_TRIP_S, batches[0]),
        ("new worker", ROUND_TRIP_S, batches[1]),
        ("new worker, slow link", WRITE_S, batches[1]),
    ):
        here = directory / name.replace(":", "").replace(" ", "-")
        server = enter(Server("valkey", here / "server"))
        proxy = enter(Proxy(server.url, delay_s=round_trip / 2))
        near = {"CELERY_BROKER_URL": server.url, "CELERY_RESULT_BACKEND": server.url}
        env = near | {"CELERY_CONFIG_MODULE": "benchmarks.profile", "OMP_NUM_THREADS": "1"}
        config: dict[str, Any] = {"models": MODELS, "handoff_dir": str(here / "handoffs")}
        if name.startswith("old"):
            # Nothing but full batches: the buffer's timer would flush what came since the last one.
            enter(Fleet(proxy.url, here, config, prep_workers=1, env=env | {"LEGACY_LINGER_S": "3600"}))
            expected = 2
        else:
            args = ("-I", "benchmarks.probe,benchmarks.copies")
            enter(Worker(proxy.url, here, config, command=COMMAND, args=args, env=env))
            expected = 1
        side = Side(name, Client(server.url), count)
        wait_for(lambda: len(side.client.app.control.ping(timeout=1, limit=expected)) == expected, 120, name)  # noqa: B023
        if expected == 1:
            side.copies = ask(side.client.app.control, "instances", class_name="NullModel")
        yield side


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--old-batches", type=int, default=6, help="of each run of the old fleet")
    parser.add_argument("--new-batches", type=int, default=16, help="of each run of the new worker")
    options = parser.parse_args()
    started = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = list(sides(stack, directory, (options.old_batches, options.new_batches)))
        for side in found[1:]:
            warm_up(side)
        for _ in range(options.runs):
            for side in found:
                run(side, old=side is found[0])
    rows = [row(side) for side in found]
    old, new, slow = (statistics.median(side.speeds) for side in found)
    summary = {
        "new / old (goal: 3.2)": new / old,
        f"new / the old figures' {SERIAL:.2f} items/s": new / SERIAL,
        "new / device (goal: 0.97)": new / DEVICE,
        "new on the slow link / device (goal: 0.97)": slow / DEVICE,
        f"batches in flight on the slow link (at most {MOST_IN_FLIGHT})": found[2].unwritten / BATCH,
        "load average at the end": os.getloadavg()[0],
        "seconds": time.monotonic() - started,
    }
    title = f"A device of {DEVICE:.2f} items/s and a far Redis, median of {options.runs}"
    show(title, rows, summary, options.json)


def row(side: Side) -> dict[str, Any]:
    """The side's line of the table."""
    middle = statistics.median(side.speeds)
    return {
        "": side.name,
        "items/s": f"{middle:.2f}",
        "min": f"{min(side.speeds):.2f}",
        "max": f"{max(side.speeds):.2f}",
        "of the device": f"{middle / DEVICE:.3f}",
        "model copies": side.copies,
        "most unwritten": side.unwritten,
        "most commits at once": side.commits,
    }


if __name__ == "__main__":
    main()
