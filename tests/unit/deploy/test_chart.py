"""The Helm chart of deploy/kubernetes, rendered by Helm's own library: the same resources as the overlays'."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.environments import environment
from tests.unit.deploy.kustomize import build

CHART = Path(__file__).parents[3] / "deploy" / "kubernetes"
VALUES: dict[str, dict[str, Any]] = {
    "cpu": {"gpu": False},
    "gpu": {},
    "keda": {"keda": True, "monitoring": True},
}
"""An overlay, and the values that make the same of the chart."""


@pytest.fixture(scope="module")
def python() -> Path:
    return environment("helm", "helm-python-sdk==0.2.2") / "python"


def run(python: Path, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    command = [str(python), str(Path(__file__).parent / "rendered_chart.py"), str(CHART)]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)


def rendered(python: Path, **values: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """The resources, by kind and name."""
    done = run(python, values)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["lint"] == []
    return named(each for text in found["manifests"] for each in yaml.safe_load_all(text) if each)


def named(resources: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"]): each for each in resources}


@pytest.mark.parametrize("overlay", VALUES)
def test_it_makes_the_resources_of_the_overlay(overlay: str, python: Path) -> None:
    found = rendered(python, **VALUES[overlay])
    annotations = found["Deployment", "legit-embedding"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations.pop("checksum/settings")  # kustomize puts a hash into the name instead
    assert found == named(build(CHART / "overlays" / overlay))


def test_other_settings_replace_every_pod(python: Path) -> None:
    def pod(**values: Any) -> dict[str, Any]:
        return rendered(python, **values)["Deployment", "legit-embedding"]["spec"]["template"]

    changed = rendered(python, settings="shutdown_s = 20\n", image="registry/embedding:2", replicas=3)
    assert changed["ConfigMap", "legit-embedding"]["data"] == {"legit.toml": "shutdown_s = 20\n"}
    deployment = changed["Deployment", "legit-embedding"]["spec"]
    assert deployment["replicas"] == 3
    assert deployment["template"]["spec"]["containers"][0]["image"] == "registry/embedding:2"
    assert deployment["template"]["metadata"]["annotations"] != pod()["metadata"]["annotations"]


def test_an_unknown_value_is_refused(python: Path) -> None:
    done = run(python, {"gpus": 2})
    assert done.returncode != 0
    assert "gpus" in done.stderr
