"""The proof: tasks in waves, workers that come and go and die, and every task answered once."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from tests.fleet.controller import TASKS, Controller, Policy
from tests.servers import Server
from tests.soak.tally import Outcomes
from tests.workers import COMMAND, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BATCH_S, BATCH = 0.16, 32
RATE = BATCH / BATCH_S
"""Items per second of a worker: its device is simulated by a pause, so the rate does not depend on the cores."""
CONFIG: dict[str, Any] = {
    "models": {
        "null": {
            "kind": "text",
            "backend": "legit_embedding.models.null:NullModel",
            "default": True,
            "max_batch": BATCH,
            "options": {"batch_s": BATCH_S, "dim": 384},
        }
    },
    "streams": {"claim_idle_ms": 3000},
}
ARGS = ("--without-mingle", "--without-gossip", "-c", "1")
LATE_S = 10
"""How much later the slow starter starts, in seconds."""
TICK_S = 0.25
AT_ONCE = 500
PATIENCE_S = 900


@dataclass(frozen=True)
class Proof:
    """What happened."""

    tasks: int
    answered: int
    duplicates: int
    workers: int
    """The most at once."""
    made: int
    seconds: float
    capacity: float
    """Tasks that the workers there could have answered while there was something to do, per task."""
    stopped_busy: int
    killed: int
    longest_stop_s: float
    faults: tuple[str, ...]


def prove(directory: Path, tasks: int, waves: int, policy: Policy, *, kill: int = 2) -> Proof:
    """Let the tasks arrive in waves; stop a worker in the middle of each, and lose a node of `kill` workers once."""
    with Server("valkey", directory / "valkey") as server:
        client = redis.Redis.from_url(server.url)
        controller = Controller(client, policy, lambda name: _worker(server, directory, name))
        try:
            return _prove(client, controller, tasks, waves, kill)
        finally:
            controller.close()


def _prove(client: redis.Redis, controller: Controller, tasks: int, waves: int, kill: int) -> Proof:
    began, work, killed, stopped_busy, size = time.monotonic(), 0.0, 0, 0, tasks // waves
    ids = [f"task-{number}" for number in range(size * waves)]
    for wave in range(waves):
        _add(client, ids[wave * size : (wave + 1) * size])
        last, is_stopped = time.monotonic(), False
        while True:
            controller.turn()
            now = time.monotonic()
            if controller.items:
                work += (now - last) * len(controller.working) * RATE
            last = now
            left = controller.items / size
            if left < 0.7 and not is_stopped and len(controller.ready) > 1:
                controller.stop_one()
                is_stopped, stopped_busy = True, stopped_busy + 1
            if left < 0.5 and wave == 0 and not killed and len(controller.ready) > kill:
                killed = len(controller.kill_a_node(kill))
            if not controller.items and (wave < waves - 1 or not controller.pods):
                break
            assert now - began < PATIENCE_S, f"{controller.items} tasks left, {len(controller.pods)} workers"
            time.sleep(TICK_S)
    answers = Outcomes.read(redis.Redis(connection_pool=_text(client)))
    answers.check(ids, f"fleet of {controller.peak}", "valkey", f"{killed} kill -9", time.monotonic() - began)
    return Proof(
        tasks=len(ids),
        answered=len(answers.ids),
        duplicates=answers.duplicates,
        workers=controller.peak,
        made=controller.made,
        seconds=time.monotonic() - began,
        capacity=work / len(ids),
        stopped_busy=stopped_busy,
        killed=killed,
        longest_stop_s=max(controller.stops, default=0.0),
        faults=tuple(controller.faults),
    )


def _add(client: redis.Redis, ids: list[str]) -> None:
    for start in range(0, len(ids), AT_ONCE):
        with client.pipeline(transaction=False) as pipeline:
            for task_id in ids[start : start + AT_ONCE]:
                pipeline.xadd(TASKS, {"payload": json.dumps({"task_id": task_id, "text": task_id})})
            pipeline.execute()


def _worker(server: Server, directory: Path, name: str) -> Worker:
    command: Sequence[str] = COMMAND
    if name == "pod-3":  # a node that has to pull the image first
        shell = f'sleep {LATE_S}; exec {shlex.join([sys.executable, *COMMAND])} "$@"'
        command = ("-c", "import os, sys; os.execvp('sh', ['sh', '-c', sys.argv[1], 'sh', *sys.argv[2:]])", shell)
    env = {"LEGIT_WORKER_ID": name, "OMP_NUM_THREADS": "1"}
    return Worker(server.url, directory / name, CONFIG, args=(*ARGS, "-n", f"{name}@fleet"), env=env, command=command)


def _text(client: redis.Redis) -> redis.ConnectionPool:
    options = client.connection_pool.connection_kwargs | {"decode_responses": True}
    return redis.ConnectionPool(**options)
