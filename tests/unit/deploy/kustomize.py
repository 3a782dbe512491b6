"""As much of `kustomize build` as the files in deploy/kubernetes use; anything else is an error."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = {"apiVersion", "kind", "resources", "components", "labels", "patches", "configMapGenerator"}


def build(folder: Path) -> list[dict[str, Any]]:
    """The resources of a folder with a kustomization.yaml."""
    return _extended(folder, [])


def _extended(folder: Path, made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is made so far with a folder's resources and changes; a component may change what was there before it."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(plan) <= KNOWN, set(plan) - KNOWN
    for name in plan.get("resources", []):
        path = folder / name
        made += build(path) if path.is_dir() else [yaml.safe_load(path.read_text())]
    for name in plan.get("components", []):
        _extended(folder / name, made)
    for each in plan.get("configMapGenerator", []):
        data = {file: (folder / file).read_text() for file in each["files"]}
        made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": each["name"]}, "data": data})
    for each in plan.get("labels", []):
        for resource in made:
            _label(resource, each["pairs"])
    for each in plan.get("patches", []):
        [target] = [resource for resource in made if _is(resource, each["target"])]
        for step in yaml.safe_load(each["patch"]):
            _apply(target, step)
    return made


def _is(resource: dict[str, Any], target: dict[str, str]) -> bool:
    return (resource["kind"], resource["metadata"]["name"]) == (target["kind"], target["name"])


def _label(resource: dict[str, Any], pairs: dict[str, str]) -> None:
    """As ``includeSelectors: true``."""
    resource["metadata"].setdefault("labels", {}).update(pairs)
    spec = resource.get("spec", {})
    if resource["kind"] == "Deployment":
        spec.setdefault("selector", {}).setdefault("matchLabels", {}).update(pairs)
        spec["template"].setdefault("metadata", {}).setdefault("labels", {}).update(pairs)
    elif resource["kind"] == "Service":
        spec.setdefault("selector", {}).update(pairs)
    elif resource["kind"] == "PodDisruptionBudget":
        spec.setdefault("selector", {}).setdefault("matchLabels", {}).update(pairs)
    elif resource["kind"] == "NetworkPolicy":
        spec["podSelector"].setdefault("matchLabels", {}).update(pairs)


def _apply(resource: dict[str, Any], step: dict[str, Any]) -> None:
    """One operation of a JSON patch (RFC 6902)."""
    last: str | int
    *parts, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
    place: Any = resource
    for part in parts:
        place = place[int(part)] if isinstance(place, list) else place[part]
    last = int(last) if isinstance(place, list) and last != "-" else last
    if step["op"] == "test":
        assert place[last] == step["value"], step
    elif step["op"] == "remove":
        del place[last]
    elif isinstance(place, list):
        place.insert(len(place) if last == "-" else last, deepcopy(step["value"]))
    else:
        assert step["op"] == "add", step
        place[last] = deepcopy(step["value"])
