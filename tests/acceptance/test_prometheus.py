"""A real Prometheus, with the configuration of compose.yaml, at a real worker."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from tests.acceptance.conftest import NULL_MODELS
from tests.clients import PREPARE_TEXT, Client
from tests.servers import Server, free_port
from tests.unit.telemetry.deployed import DEPLOY, alerts, dashboard_expressions
from tests.waiting import wait_for
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

program = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(program is None, reason="there is no prometheus")


class Prometheus:
    """Prometheus' own HTTP interface."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression; an assertion where it is wrong."""
        answer = self._client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return answer["data"]["result"]

    def rules(self) -> dict[str, dict[str, Any]]:
        groups = self._client.get("/api/v1/rules").json()["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}


@pytest.fixture
def worker_port() -> int:
    return free_port()


@pytest.fixture
def prometheus(worker_port: int, tmp_path: Path) -> Iterator[Prometheus]:
    """Prometheus as compose.yaml starts it, but for the worker's address and the pace."""
    config = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{worker_port}"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(DEPLOY / "alerts.yml", tmp_path)
    port = free_port()
    command = [
        f"{program}",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        (tmp_path / "log").open("wb") as log,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            prometheus = Prometheus(client)
            wait_for(prometheus.is_ready, 60, "Prometheus")
            yield prometheus
        finally:
            process.kill()


def test_it_reads_the_worker_and_alerts(
    prometheus: Prometheus, own_server: Server, worker_port: int, tmp_path: Path
) -> None:
    config = {"models": NULL_MODELS, "http": {"port": worker_port}}
    with Worker(own_server.url, tmp_path / "worker", config) as worker:
        worker.wait_ready()
        client = Client(own_server.url)
        client.send_all((PREPARE_TEXT, {"task_id": f"t{number}", "text": "a"}) for number in range(20))
        client.close()
        counted = 'sum(legit_items_total{outcome="ok"})'
        wait_for(lambda: [each["value"][1] for each in prometheus.ask(counted)] == ["20"], 60, "20 counted items")
        assert [each["value"][1] for each in prometheus.ask("legit_healthy")] == ["1"]

        assert set(prometheus.rules()) == {rule["alert"] for group in alerts()["groups"] for rule in group["rules"]}
        wait_for(lambda: {each["health"] for each in prometheus.rules().values()} == {"ok"}, 30, "evaluated rules")
        # "No workers" was pending until the first scrape.
        wait_for(lambda: {each["state"] for each in prometheus.rules().values()} == {"inactive"}, 30, "no alert")
        for expression in dashboard_expressions():
            if not expression.startswith("label_values"):
                prometheus.ask(expression.replace("$worker", ".*").replace("$__rate_interval", "1m"))

        own_server.kill()
        wait_for(lambda: prometheus.rules()["EmbeddingWorkerUnhealthy"]["state"] == "pending", 90, "the alert")
        worker.kill()
        wait_for(lambda: prometheus.rules()["EmbeddingNoWorkers"]["state"] == "pending", 30, "the other alert")
