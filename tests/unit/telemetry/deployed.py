"""What stands in `deploy/`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = Path(__file__).parents[3] / "deploy"
COMPONENTS = DEPLOY / "kubernetes" / "components"
_METRIC = re.compile(r"\b(?:legit|process|python)_[a-z_]+\b")


def dashboard() -> dict[str, Any]:
    return json.loads((DEPLOY / "grafana-dashboard.json").read_text())


def alerts() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "alerts.yml").read_text())


def named_metrics() -> dict[str, set[str]]:
    """The metrics that each file names in its expressions."""
    return {
        "grafana-dashboard.json": _metrics(dashboard_expressions()),
        "alerts.yml": _metrics(rule["expr"] for rule in _rules(alerts())),
        "cost.yaml": _metrics(rule["expr"] for rule in _rules(_spec("monitoring/cost.yaml"))),
        "scaledobject.yaml": _metrics(
            each["metadata"].get("query", "") for each in _spec("keda/scaledobject.yaml")["triggers"]
        ),
    }


def dashboard_expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


def _spec(component: str) -> dict[str, Any]:
    return yaml.safe_load((COMPONENTS / component).read_text())["spec"]


def _rules(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for group in spec["groups"]:
        yield from group["rules"]


def _metrics(expressions: Any) -> set[str]:
    return {name for expression in expressions for name in _METRIC.findall(expression)}
