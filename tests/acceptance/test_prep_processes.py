"""``prep.processes`` with the real command: killed under load, nothing is lost, and vectors are those of threads."""

from __future__ import annotations

import base64
import json
import os
import signal
import urllib.request

import numpy as np
import psutil
import pytest

from legit_embedding.encoding import decode_embedding
from tests import deadly_model
from tests.acceptance.conftest import TEST_TASKS
from tests.images import variety
from tests.servers import free_port
from tests.workers import Worker, wait_for

IMAGES, KILLS = 400, 3
TOLERANCE = 1e-5
"""Vectors of one image differ by the batch that it was computed in, by 1e-7 or so in each value."""
MODELS = {
    "clip": {"kind": "image", "backend": "open_clip", "name": "ViT-S-32", "pretrained": "random:0", "default": True},
    "deadly": {"kind": "image", "backend": "tests.deadly_model:DeadlyModel"},
}


def add(client, tasks):
    pipe = client.redis.pipeline(transaction=False)
    for task_id, fields in tasks.items():
        pipe.xadd("embedding_tasks", {"payload": json.dumps({"task_id": task_id, **fields})})
    pipe.execute()


def files():
    """The tasks' images, by task id: good ones of every format, and some that are none."""
    good = list(variety().values())
    return {f"i{n}": good[n % len(good)] if n % 20 else good[n % len(good)][:500] for n in range(IMAGES)}


def image(data):
    return {"kind": "image", "image_b64": base64.b64encode(data).decode()}


def prep_processes(worker):
    """The ids of the process that prep processes are forked from, and of themselves."""
    family = psutil.Process(worker.pid).children(recursive=True)
    return [each.pid for each in family if "legit_embedding.prep_processes.forker" in each.cmdline()]


def kill_one(worker, client):
    """Kill a child while answers come; returns how many there were."""
    before = client.redis.xlen("embedding_results")
    wait_for(lambda: client.redis.xlen("embedding_results") > before, 60, "an answer")
    pid = prep_processes(worker)[-1]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(pid), 30, "its end")
    return before


@pytest.mark.timeout(420)
@pytest.mark.slow
def test_children_that_are_killed_under_load(redis_url, tmp_path, client):
    port = free_port()
    config = {"models": MODELS, "prep": {"processes": 2}, "http": {"port": port}}
    tasks = {task_id: image(data) for task_id, data in files().items()}
    poison = image(deadly_model.KILL) | {"model": "deadly"}
    with Worker(redis_url, tmp_path / "processes", config, args=("-c", "2"), env=TEST_TASKS) as worker:
        worker.wait_ready(150)
        children = wait_for(lambda: prep_processes(worker)[2:] and prep_processes(worker), 30, "two children")
        add(client, tasks | {"well": image(b"any file") | {"model": "deadly"}})
        assert max(kill_one(worker, client) for _ in range(KILLS)) < IMAGES, "the kills came too late to show anything"
        add(client, {"poison": poison})
        answers = client.answers([*tasks, "poison", "well"], timeout=150)
        children += prep_processes(worker)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as metrics:
            figures = metrics.read().decode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as health:
            assert health.status == 200
        assert worker.stop() == 0
        wait_for(lambda: not any(map(psutil.pid_exists, children)), 10, "no child to be left")
        assert worker.log.count("ended: SIGKILL") == KILLS + 3, "the poison is tried three times"
    entries = [entry["task_id"] for entry in client.entries()]
    assert len(entries) == len(set(entries)) == IMAGES + 2, "one answer a task"
    assert answers["well"]["status"] == "ok"
    assert answers["poison"]["error"] == "undecodable"
    assert answers["poison"]["detail"] == "the image ends the process that decodes it"
    (deaths,) = (line for line in figures.splitlines() if line.startswith("legit_prep_process_deaths_total{"))
    assert float(deaths.split()[-1]) == worker.log.count("ended: SIGKILL")

    client.redis.delete("embedding_results")
    config = {"models": {"clip": MODELS["clip"]}}
    with Worker(redis_url, tmp_path / "threads", config, args=("-c", "2"), env=TEST_TASKS) as worker:
        worker.wait_ready(150)
        add(client, tasks)
        expected = client.answers(list(tasks), timeout=150)
        assert not prep_processes(worker)
        assert worker.stop() == 0
    for task_id in tasks:
        ours, theirs = answers[task_id], expected[task_id]
        assert [ours.get(key) for key in ("status", "error", "detail", "repaired")] == [
            theirs.get(key) for key in ("status", "error", "detail", "repaired")
        ]
        if theirs["status"] == "ok":
            difference = decode_embedding(ours["embedding"]) - decode_embedding(theirs["embedding"])
            assert np.abs(difference).max() < TOLERANCE
    assert {answer["status"] for answer in expected.values()} == {"ok", "error"}


@pytest.mark.slow
def test_a_killed_worker_leaves_no_child(redis_url, tmp_path):
    config = {"models": {"deadly": MODELS["deadly"]}, "prep": {"processes": 2}}
    with Worker(redis_url, tmp_path / "w", config, args=("-c", "2"), env=TEST_TASKS) as worker:
        worker.wait_ready(150)
        children = wait_for(lambda: prep_processes(worker)[2:] and prep_processes(worker), 30, "two children")
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        wait_for(lambda: not any(map(psutil.pid_exists, children)), 10, "no child to be left")


@pytest.mark.slow
def test_a_stop_keeps_its_budget_while_a_child_hangs(redis_url, tmp_path, client):
    """The item that it is at goes back to the group, and no process is left."""
    config = {"models": {"deadly": MODELS["deadly"]}, "prep": {"processes": 1}, "shutdown_s": 2}
    with Worker(redis_url, tmp_path / "w", config, args=("-c", "2"), env=TEST_TASKS) as worker:
        worker.wait_ready(150)
        add(client, {"hangs": image(deadly_model.HANG + bytes(tmp_path / "pid"))})
        wait_for((tmp_path / "pid").exists, 60, "the child to hang")
        children = prep_processes(worker)
        assert worker.stop(timeout=20) == 0
        wait_for(lambda: not any(map(psutil.pid_exists, children)), 10, "no child to be left")
    assert client.redis.xlen("embedding_results") == 0
    assert client.redis.xlen("embedding_tasks") == 1
