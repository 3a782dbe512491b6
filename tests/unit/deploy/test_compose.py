"""compose.yaml and the files that it mounts are of one mind, with each other and with the settings."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from legit_embedding.config import load_settings

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
FOLDER = ROOT / "deploy" / "compose"
WORKERS = ("worker-cpu", "worker-gpu")


def mounted(service: str) -> dict[str, Path]:
    """The files of this repository by where the service finds them."""
    pairs = [each.split(":") for each in COMPOSE["services"][service]["volumes"]]
    return {pair[1]: ROOT / pair[0] for pair in pairs if pair[0].startswith("./")}


def prometheus() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "prometheus.yml").read_text())


def compose() -> list[str]:
    """The command of either release; empty if neither is here."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    command = ["docker", "compose"]
    if shutil.which("docker") is None:
        return []
    return [] if subprocess.run([*command, "version"], capture_output=True, check=False).returncode else command


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_compose_takes_it(profile: str) -> None:
    program = compose()
    if not program:
        pytest.skip("there is neither docker-compose nor docker's own compose on the PATH")
    run = subprocess.run(
        [*program, "--profile", profile, "config", "-q"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("service", [name for name, each in COMPOSE["services"].items() if "volumes" in each])
def test_every_file_that_is_mounted_is_there(service: str) -> None:
    assert [each for each in mounted(service).values() if not each.is_file()] == []


@pytest.mark.parametrize("service", WORKERS)
def test_the_worker_takes_its_settings(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in COMPOSE["services"][service]["environment"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LEGIT_CONFIG", str(mounted(service)["/app/legit.toml"]))
    taken = load_settings()
    assert taken.device == {"worker-cpu": "cpu", "worker-gpu": "cuda:0"}[service]
    assert taken.redis_url == "redis://redis:6379/0"
    assert COMPOSE["services"][service]["ports"] == [f"127.0.0.1:{taken.http.port}:{taken.http.port}"]


def test_prometheus_scrapes_either_worker_and_has_the_alerts() -> None:
    [job] = prometheus()["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    for service in WORKERS:
        assert COMPOSE["services"][service]["networks"]["default"]["aliases"] == [target.partition(":")[0]]
    files = mounted("prometheus")
    for name in prometheus()["rule_files"]:
        assert files[f"/etc/prometheus/{name}"] == ROOT / "deploy/alerts.yml"


def test_grafana_has_the_dashboard_and_where_its_figures_are() -> None:
    files = mounted("grafana")
    [provider] = yaml.safe_load((FOLDER / "grafana/dashboards.yml").read_text())["providers"]
    boards = [file for place, file in files.items() if place.startswith(provider["options"]["path"] + "/")]
    assert boards == [ROOT / "deploy/grafana-dashboard.json"]
    [source] = yaml.safe_load((FOLDER / "grafana/datasource.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for each in COMPOSE["services"].values() for port in each.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
