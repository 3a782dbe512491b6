"""Renders the chart of a folder with the values on standard input; to be run where helm-python-sdk is installed."""

from __future__ import annotations

import json
import sys

import helm_python  # type: ignore[import-not-found] - in an environment of its own

folder = sys.argv[1]
found = helm_python.lint(folder)
with helm_python.Chart.load(folder) as chart:
    values = json.load(sys.stdin)
    chart.validate_schema(values)
    rendered = chart.render(values, name="release", namespace="embedding")
json.dump({"lint": found["errors"], "manifests": list(rendered.values())}, sys.stdout)
