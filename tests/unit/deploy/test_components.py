"""The components for KEDA and the Prometheus operator: valid, and of one mind with the settings and the metrics."""

from __future__ import annotations

import json
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from legit_embedding.celery import app
from legit_embedding.config import StreamConfig
from tests.environments import environment
from tests.unit.deploy.kustomize import build
from tests.unit.telemetry.deployed import alerts

DEPLOY = Path(__file__).parents[3] / "deploy"
OPERATORS = {"keda.sh/v1alpha1", "monitoring.coreos.com/v1"}
KEYS = {
    "redis-streams": {"stream", "streamLength", "databaseIndex", "enableTLS"},
    "prometheus": {"serverAddress", "query", "threshold", "activationThreshold", "ignoreNullValues"},
    "redis": {"listName", "listLength", "activationListLength", "databaseIndex", "enableTLS"},
}
"""Keys of the triggers' metadata, which the types leave open (KEDA's documentation of its scalers). Streams have no
``activationStreamLength``, and with a ``consumerGroup`` it counts pending entries, whatever ``streamLength`` says."""
PARAMETERS = {"address", "password", "username", "tls", "ca", "cert", "key", "keyPassword"}


@pytest.fixture(scope="module")
def resources() -> list[dict[str, Any]]:
    return [each for each in build(DEPLOY / "kubernetes/overlays/keda") if each["apiVersion"] in OPERATORS]


@pytest.fixture(scope="module")
def python() -> Path:
    pins = ("cloudcoil-models-keda==2.16.1.0", "cloudcoil-models-prometheus-operator==0.80.1.0", "cloudcoil==0.6.0")
    return environment("operators", *pins) / "python"


def one(kind: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
    [found] = [each for each in resources if each["kind"] == kind]
    return found


def validated(python: Path, resources: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).parent / "against_operators.py"
    return subprocess.run(
        [str(python), str(script)], input=json.dumps(resources), capture_output=True, text=True, check=False
    )


def test_every_resource_is_valid_to_the_last_key(resources: list[dict[str, Any]], python: Path) -> None:
    assert {each["kind"] for each in resources} == {
        *("ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule")
    }
    run = validated(python, resources)
    assert run.returncode == 0, run.stdout + run.stderr


def test_an_unknown_key_would_be_found(resources: list[dict[str, Any]], python: Path) -> None:
    wrong = deepcopy(one("ScaledObject", resources))
    wrong["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behaviour"] = {}
    run = validated(python, [wrong])
    assert run.returncode == 1
    assert "behaviour" in run.stderr


def test_each_trigger_counts_what_the_worker_reads(resources: list[dict[str, Any]]) -> None:
    triggers = {each["type"]: each["metadata"] for each in one("ScaledObject", resources)["spec"]["triggers"]}
    assert {kind: set(metadata) <= KEYS[kind] for kind, metadata in triggers.items()} == dict.fromkeys(KEYS, True)
    assert triggers["redis-streams"]["stream"] == StreamConfig().tasks
    assert triggers["redis"]["listName"] == app.conf.task_default_queue
    assert StreamConfig().delete_on_ack, "or the stream's length would never be 0"


def test_triggers_have_the_server_from_the_secret(resources: list[dict[str, Any]]) -> None:
    authentication = one("TriggerAuthentication", resources)
    targets = authentication["spec"]["secretTargetRef"]
    assert {each["parameter"] for each in targets} <= PARAMETERS
    for trigger in one("ScaledObject", resources)["spec"]["triggers"]:
        if trigger["type"] == "prometheus":
            continue
        assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]


def test_nothing_but_keda_says_how_many_pods_there_are(resources: list[dict[str, Any]]) -> None:
    spec = one("ScaledObject", resources)["spec"]
    [deployment] = [each for each in build(DEPLOY / "kubernetes/overlays/keda") if each["kind"] == "Deployment"]
    assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 6)


def test_the_pod_monitor_finds_the_pods_and_their_port(resources: list[dict[str, Any]]) -> None:
    spec = one("PodMonitor", resources)["spec"]
    [deployment] = [each for each in build(DEPLOY / "kubernetes/overlays/keda") if each["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = {each["name"] for each in template["spec"]["containers"][0]["ports"]}
    assert {each["port"] for each in spec["podMetricsEndpoints"]} <= ports


def test_the_alerts_are_those_of_the_file() -> None:
    rule = yaml.safe_load((DEPLOY / "kubernetes/components/monitoring/alerts.yaml").read_text())
    assert rule["spec"] == alerts(), "run scripts/kubernetes_alerts"


def test_no_pod_is_no_alarm_where_keda_scales_to_zero(resources: list[dict[str, Any]]) -> None:
    names = {
        rule.get("alert")
        for each in resources
        if each["kind"] == "PrometheusRule"
        for group in each["spec"]["groups"]
        for rule in group["rules"]
    }
    assert "EmbeddingNoWorkers" not in names
    assert {"EmbeddingWorkerUnhealthy", "EmbeddingSpend", "EmbeddingWorkerOld"} <= names
