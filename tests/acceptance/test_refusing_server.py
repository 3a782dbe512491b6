"""A server that refuses: the worker lives, says why, and goes on when it may."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from tests.acceptance.conftest import NULL_MODELS
from tests.clients import Client
from tests.servers import Server, available_kinds, free_port
from tests.workers import Worker, wait_for

REFUSALS = {
    "maxmemory": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    "NOREPLICAS": ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    "read only": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    "eval": ("ACL SETUSER default -eval", "ACL SETUSER default +eval"),
    "blmove": ("ACL SETUSER default -blmove", "ACL SETUSER default +blmove"),
    "hdel": ("ACL SETUSER default -hdel", "ACL SETUSER default +hdel"),
}
"""What the server's refusal says; what makes it so, and what ends it."""


@pytest.fixture(scope="module", params=available_kinds())
def server(request, tmp_path_factory):
    with Server(request.param, tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def worker(server, port, tmp_path_factory):
    config = {"models": NULL_MODELS, "http": {"port": port}, "telemetry": {"interval_s": 0.5}}
    with Worker(server.url, tmp_path_factory.mktemp("worker"), config) as started:
        yield started.wait_ready()


@pytest.fixture
def client(server):
    client = Client(server.url)
    yield client
    client.close()


def execute(server, command):
    with server.client() as redis:
        redis.execute_command(*command.split())


def health(port):
    """The status of ``/health`` and its text; nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def embed(client, prefix):
    ids = [f"{prefix}-{number}" for number in range(5)]
    for task_id in ids:
        client.text("x", task_id=task_id)
    answers = client.answers(ids)
    assert {answers[each]["status"] for each in ids} == {"ok"}
    counts = [entry["task_id"] for entry in client.entries()]
    assert all(counts.count(each) == 1 for each in ids)


@pytest.mark.parametrize("name", REFUSALS)
def test_an_idle_worker_outlives_a_refusal(server, worker, client, port, name):
    refuse, allow = REFUSALS[name]
    execute(server, refuse)
    try:
        if name == "hdel":
            # An idle worker settles nothing.
            client.text("x", task_id="settled-later")
            client.answers(["settled-later"])
        wait_for(lambda: health(port)[0] == 503 and name.lower() in health(port)[1].lower(), 30, f"{name} in health")
        assert worker.running
    finally:
        execute(server, allow)
    embed(client, name)
    wait_for(lambda: health(port)[0] == 200, 30, "a healthy worker")
    wait_for(lambda: client.redis.hlen("unacked") == 0, 30, "everything to be settled")
    assert "Unrecoverable error" not in worker.log


def test_a_worker_starts_on_a_server_that_refuses(server, worker, client):
    assert worker.stop() == 0
    refuse, allow = REFUSALS["maxmemory"]
    execute(server, refuse)
    try:
        worker.start()
        worker.wait_for_log("maxmemory", timeout=60)
        wait_for(lambda: worker.log.count("maxmemory") > 1, 30, "another attempt")
        assert worker.running
    finally:
        execute(server, allow)
    worker.wait_ready()
    embed(client, "started")
