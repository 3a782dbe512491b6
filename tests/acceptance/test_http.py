"""HTTP from the real commands: ``legit-embedding serve``, and the worker beside its streams."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import redis

from legit_embedding.encoding import decode_embedding
from tests.environments import environment
from tests.servers import free_port
from tests.workers import ROOT, Worker, wait_for

if TYPE_CHECKING:
    from pathlib import Path

SERVE = ("-m", "legit_embedding.cli", "serve")
LANGCHAIN = "langchain-openai==1.7.4"
NOWHERE = "redis://127.0.0.1:1/0"
OF_OPENAI = """
import base64, json, struct
for each in client.embeddings.create(model="minilm", input={texts!r}, encoding_format="{encoding}").data:
    vector = each.embedding
    if isinstance(vector, str):  # whoever asks for base64 gets it as it is
        vector = struct.unpack("<384f", base64.b64decode(vector))
    print(json.dumps(vector))
"""
SLOW = {
    "slow": {
        "kind": "text",
        "backend": "legit_embedding.models.null:NullModel",
        "options": {"batch_s": 0.2},
        "max_batch": 1,
    }
}


def client_of(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)


def is_well(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def serving(directory: Path, port: int, config: dict[str, Any] | None = None) -> Worker:
    return Worker(NOWHERE, directory, config, command=SERVE, args=("--port", str(port)))


def test_serve_embeds_at_once_without_settings_and_without_redis(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, port) as server, client_of(port) as client:
        wait_for(lambda: is_well(client), 60, "the server to be well")
        plain = client.post("/embed", json={"texts": ["a red bicycle", " "]}).json()
        assert (plain["model"], plain["dimension"], plain["count"]) == ("minilm", 384, 2)
        answer = client.post("/v1/embeddings", json={"input": "a red bicycle", "encoding_format": "base64"}).json()
        # Within the arithmetic's rounding: two texts may share a batch, and this one is alone in its own.
        np.testing.assert_allclose(
            decode_embedding(answer["data"][0]["embedding"]), plain["dense_vecs"][0], rtol=0, atol=1e-6
        )
        assert answer["usage"]["prompt_tokens"] == len(["[CLS]", "a", "red", "bicycle", "[SEP]"])
        ids = client.post("/v1/embeddings", json={"input": [101, 1037, 2417, 10165, 102]}).json()
        np.testing.assert_allclose(ids["data"][0]["embedding"], plain["dense_vecs"][0], atol=1e-6)
        assert server.stop() == 0


def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    port = free_port()
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    commands = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    openai, langchain = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    with serving(tmp_path, port), client_of(port) as client:
        wait_for(lambda: is_well(client), 60, "the server to be well")
        answers = [
            json.loads(line)
            for each in commands
            for line in run(["bash", "-c", each]).replace("}{", "}\n{").splitlines()
        ]
        assert [set(answer) for answer in answers] == [
            {"model", "dimension", "count", "dense_vecs"},
            {"object", "data", "model", "usage"},
            {"object", "data"},
            {"model", "dimension", "count", "dense_vecs"},
        ]
        python = environment("openai", "openai==3.57.0") / "python"
        assert run([str(python), "-c", openai]) == "2 384 13\n"
        texts = ["a red bicycle", "ein rotes Fahrrad"]
        vectors = client.post("/embed", json={"texts": texts}).json()["dense_vecs"]
        for encoding in ("float", "base64"):
            code = openai + OF_OPENAI.format(texts=texts, encoding=encoding)
            found = [json.loads(line) for line in run([str(python), "-c", code]).splitlines()[1:]]
            np.testing.assert_allclose(found, vectors, atol=1e-6)
        python = environment("langchain", LANGCHAIN) / "python"
        shown, told = run([str(python), "-c", f"{langchain}\nprint(vectors)"]).splitlines()
        assert shown.startswith("1.0 0.")
        np.testing.assert_allclose(json.loads(told), vectors, atol=1e-6)


def test_serve_answers_what_it_has_accepted_when_it_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, port, {"models": SLOW}) as server, client_of(port) as client, ThreadPoolExecutor() as pool:
        wait_for(lambda: is_well(client), 60, "the server to be well")
        accepted = pool.submit(client.post, "/embed", json={"texts": ["a"] * 10, "model": "slow"})
        wait_for(lambda: in_flight(client.get("/metrics").text) > 0, 30, "the items")
        assert server.stop(signal.SIGTERM) == 0
        assert accepted.result().json()["count"] == 10


def test_serve_says_in_one_line_why_it_cannot_start(tmp_path: Path) -> None:
    with Worker(NOWHERE, tmp_path, command=SERVE, args=("--host", "0.0.0.0", "--port", str(free_port()))) as server:
        assert server.wait() == 1
        assert "Error: http.host: 0.0.0.0 is open to other hosts: set http.token" in server.log


def test_the_worker_embeds_for_http_and_for_its_streams(redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    models = {"null": {"kind": "text", "backend": "legit_embedding.models.null:NullModel", "default": True}}
    config = {"models": models, "http": {"port": port, "token": "secret-of-the-door"}}
    with Worker(redis_url, tmp_path, config) as worker, client_of(port) as client:
        client.headers["Authorization"] = "Bearer secret-of-the-door"
        worker.wait_ready()
        embedded = client.post("/embed", json={"texts": ["one"]}).json()["dense_vecs"][0]
        with redis.Redis.from_url(redis_url, decode_responses=True) as streams:
            streams.xadd("embedding_tasks", {"payload": json.dumps({"text": "one"})})
            entries = wait_for(lambda: streams.xrange("embedding_results"), 30, "the stream's result")
        assert len(entries) == 1, "what came by HTTP is answered there and on no stream"
        np.testing.assert_array_equal(decode_embedding(entries[0][1]["embedding"]), np.float32(embedded))
        assert client.post("/embed", json={"texts": ["one"]}, headers={"Authorization": "Bearer x"}).status_code == 401
        assert worker.stop() == 0
        assert "secret-of-the-door" not in worker.log


def test_the_worker_embeds_while_redis_is_away(own_server: Any, tmp_path: Path) -> None:
    port = free_port()
    models = {"null": {"kind": "text", "backend": "legit_embedding.models.null:NullModel", "default": True}}
    with (
        Worker(own_server.url, tmp_path, {"models": models, "http": {"port": port}}) as worker,
        client_of(port) as client,
    ):
        worker.wait_ready()
        own_server.kill()
        wait_for(lambda: client.get("/health").status_code == 503, 30, "health to be red")
        assert client.get("/live").status_code == 200
        assert client.post("/embed", json={"texts": ["one"]}).json()["count"] == 1


def run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def in_flight(metrics: str) -> float:
    [line] = [line for line in metrics.splitlines() if line.startswith("legit_in_flight_items{")]
    return float(line.rpartition(" ")[2])
