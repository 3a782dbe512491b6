"""The manifests of deploy/kubernetes, as kustomize would build them: valid, and of one mind with the worker."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from legit_embedding.config import load_settings
from legit_embedding.errors import ConfigError
from tests.environments import environment
from tests.unit.deploy.kustomize import build
from tests.unit.deploy.test_components import OPERATORS

ROOT = Path(__file__).parents[3]
OVERLAYS = ROOT / "deploy" / "kubernetes" / "overlays"


def one(kind: str, overlay: str) -> dict[str, Any]:
    [found] = [each for each in build(OVERLAYS / overlay) if each["kind"] == kind]
    return found


def container(overlay: str) -> dict[str, Any]:
    [found] = one("Deployment", overlay)["spec"]["template"]["spec"]["containers"]
    return found


@pytest.fixture(scope="module")
def validate() -> Path:
    return environment("kubernetes", "kubernetes-validate==1.37.0") / "kubernetes-validate"


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "keda"])
def test_every_resource_is_valid_to_the_last_key(overlay: str, validate: Path, tmp_path: Path) -> None:
    files = []
    for number, resource in enumerate(build(OVERLAYS / overlay)):
        if resource["apiVersion"] in OPERATORS:
            continue  # tests/unit/deploy/test_components.py
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(resource))
    run = subprocess.run([str(validate), "--strict", *map(str, files)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_the_worker_takes_its_settings(overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in one("ConfigMap", overlay)["data"].items():
        (tmp_path / name).write_text(text)
    variables = {each["name"]: each.get("value", "redis://redis/0") for each in container(overlay)["env"]}
    assert variables["LEGIT_CONFIG"] == "/etc/legit/legit.toml"
    for name, value in (variables | {"LEGIT_CONFIG": str(tmp_path / "legit.toml")}).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.device == ("cpu" if overlay == "cpu" else "cuda:0")
    assert settings.http.port == next(each["containerPort"] for each in container(overlay)["ports"])
    pod = one("Deployment", overlay)["spec"]["template"]["spec"]
    [pause] = container(overlay)["lifecycle"]["preStop"]["exec"]["command"][1:]
    assert settings.shutdown_s + float(pause) + 5 <= pod["terminationGracePeriodSeconds"]


def test_a_typing_error_in_the_settings_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "legit.toml").write_text(
        one("ConfigMap", "cpu")["data"]["legit.toml"].replace("shutdown_s", "shutdwn_s")
    )
    monkeypatch.setenv("LEGIT_CONFIG", str(tmp_path / "legit.toml"))
    with pytest.raises(ConfigError, match="shutdwn_s"):
        load_settings()


def test_liveness_does_not_follow_redis_and_readiness_does() -> None:
    probes = container("gpu")
    assert probes["livenessProbe"]["httpGet"]["path"] == "/live"
    assert {probes[name]["httpGet"]["path"] for name in ("readinessProbe", "startupProbe")} == {"/health"}


def test_a_pod_has_one_gpu_and_no_new_pod_waits_for_it() -> None:
    deployment = one("Deployment", "gpu")
    assert container("gpu")["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
