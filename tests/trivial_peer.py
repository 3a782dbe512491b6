"""A peer of the benchmark that does wrong on purpose: `python trivial_peer.py pipe` or `... stream`.

Its answers are no vectors. From its pipe it answers four tasks, the second of them twice, and hangs. From the task
stream it answers half of what it finds and hangs; started again it answers all but the task that is last but one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import redis

TASKS, RESULTS = "embedding_tasks", "embedding_results"


def pipe() -> None:
    for number, task in enumerate(json.loads(sys.stdin.readline())[:4]):
        line = json.dumps({"task_id": task["task_id"], "at": time.time(), "embedding": ""})
        print(line, *([line] if number == 1 else []), sep="\n", flush=True)
    signal.pause()


def stream() -> None:
    client = redis.Redis.from_url(os.environ["PEER_REDIS_URL"], decode_responses=True)
    mark = Path(os.environ["PEER_FOLDER"]) / "started"
    again = mark.exists()
    mark.touch()
    while len(tasks := [fields["task_id"] for _, fields in client.xrange(TASKS)]) < 6 + again:
        time.sleep(0.01)
    for task_id in [*tasks[:-2], tasks[-1]] if again else tasks[:3]:
        client.xadd(RESULTS, {"task_id": task_id, "status": "ok", "embedding": ""})
    signal.pause()


if __name__ == "__main__":
    {"pipe": pipe, "stream": stream}[sys.argv[1]]()
