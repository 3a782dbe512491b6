"""A worker whose only model is remote."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import numpy as np

from legit_embedding.encoding import decode_embedding
from tests.clients import PREPARE_TEXT
from tests.remotes import Remote, Reply, vector
from tests.servers import free_port
from tests.unit.cli.invoking import Cli
from tests.workers import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.clients import Client
    from tests.workers import Worker

TOKEN = "a-very-secret-token"
NAME = "pod@far"


def get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as response:
        body = response.read().decode()
    return json.loads(body) if path == "/health" else body


def test_its_tasks_wait_while_the_remote_is_away(client: Client, make_worker: Callable[..., Worker]) -> None:
    port = free_port()
    with Remote("openai") as remote:
        remote.misbehave = lambda request: Reply(status=401) if TOKEN not in request.headers["authorization"] else None
        config = {
            "models": {"far": {"kind": "text", "backend": "openai", "base_url": f"{remote.url}/v1", "name": "e5"}},
            "telemetry": {"interval_s": 0.2},
            "http": {"port": port},
        }
        env = {
            "CELERY_CONFIG_MODULE": "tests.profile",
            "LEGIT_MODELS__FAR__TOKEN": TOKEN,
            "CELERY_WORKER_LOGLEVEL": "DEBUG",
        }
        with make_worker(config, env=env, args=("-n", NAME)) as worker:
            worker.wait_ready()
            receipt = client.text("now", return_embedding=True).get(timeout=60)
            assert (receipt["model"], receipt["dim"]) == ("far", 8)
            assert np.allclose(decode_embedding(receipt["embedding"]), vector("now"), atol=1e-6)
            assert not client.send("tests.tasks.has_module", "torch").get(timeout=60)

            remote.kill()
            sent = client.send_all((PREPARE_TEXT, {"task_id": f"t{n}", "text": f"text {n}"}) for n in range(300))
            wait_for(lambda: get(port, "/health")["status"] == "degraded", 60, "the worker to be degraded")
            health = get(port, "/health")
            (sentence,) = health["problems"]
            assert sentence.startswith(f"the remote model far at {remote.url}/v1/embeddings is away: no connection")
            assert client.app.control.ping(destination=[NAME], timeout=20) == [{NAME: {"ok": "pong"}}]
            (shown,) = client.app.control.inspect([NAME], timeout=20)._request("batching").values()
            assert shown["ok"]["models"]["far"]["breaker"] == "open"
            assert "legit_remote_breaker_open" in get(port, "/metrics")
            cli = Cli(REDIS_URL=worker_url(client))
            wait_for(
                lambda: f"{NAME} is degraded" in cli("health", "--worker", NAME).output, 60, "the command to say so"
            )
            assert len(client.entries()) == 1

            remote.start()
            found = client.wait_for_entries(301)
            wait_for(lambda: get(port, "/health")["status"] == "ok", 60, "the worker to be well")
            assert worker.stop() == 0
            assert TOKEN not in worker.log
    assert len(sent) == 300
    right = {f"t{n}": vector(f"text {n}") for n in range(300)}
    assert {entry["task_id"] for entry in found[1:]} == set(right)
    for entry in found[1:]:
        assert np.allclose(decode_embedding(entry["embedding"]), right[entry["task_id"]], atol=1e-6)


def worker_url(client: Client) -> str:
    return str(client.app.conf.broker_url)


def test_plan_asks_no_remote(tmp_path: Any) -> None:
    with Remote() as remote:
        far = {"kind": "text", "backend": "http", "base_url": remote.url}
        null = {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}
        for models, shown in (({"far": far}, {"far"}), ({"near": null, "far": far}, {"near", "far"})):
            cli = Cli(MODELS=json.dumps(models), DEVICE="cpu")
            said = cli("plan", "--json")
            assert json.loads(said.output).keys() == shown
            assert f"far: remote, at {remote.url}/embed" in cli("plan").output
        assert remote.requests == []
