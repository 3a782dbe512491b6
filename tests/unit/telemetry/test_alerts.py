"""The alert rules, evaluated by Prometheus' own tool over series made up for them."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.telemetry.deployed import DEPLOY, alerts

if TYPE_CHECKING:
    from pathlib import Path

promtool = shutil.which("promtool")
pytestmark = pytest.mark.skipif(promtool is None, reason="there is no promtool")

HOURS = 120
"""The minutes for which each series goes on; every rule has had its time by then."""
W = '{worker="w"}'
WM = '{worker="w",model="m"}'
WELL = {
    f"legit_healthy{W}": "1",
    'legit_in_flight_items{worker="w",model="m",stage="prep"}': "5",
    'legit_items_total{worker="w",model="m",outcome="ok"}': "0+6000",
    'legit_items_total{worker="w",model="m",outcome="model_failed"}': "0+50",
    f"legit_dead_letters_total{W}": "3",
    f"legit_backlog_seconds{W}": "3500",
    'legit_backlog_oldest_seconds{worker="w",source="stream:a"}': "3500",
    f"legit_unwritten_results{W}": "900",
    'legit_retries_total{worker="w",stage="write"}': "0+5",
    'legit_queue_seconds_bucket{worker="w",model="m",le="10.0"}': "0+94",
    'legit_queue_seconds_bucket{worker="w",model="m",le="30.0"}': "0+96",
    'legit_queue_seconds_bucket{worker="w",model="m",le="60.0"}': "0+100",
    'legit_queue_seconds_bucket{worker="w",model="m",le="+Inf"}': "0+100",
    f"legit_out_of_memory_total{WM}": "0+0.1",
    f"legit_batch_items_sum{WM}": "0+300",
    f"legit_batch_items_count{WM}": "0+100",
    f"legit_device_busy_ratio{W}": "0.95",
}
FIRES: dict[str, dict[str, str | None]] = {
    "EmbeddingWorkerUnhealthy": {f"legit_healthy{W}": "0"},
    "EmbeddingNoWorkers": {f"legit_healthy{W}": None},
    "EmbeddingNothingAnswered": {
        'legit_items_total{worker="w",model="m",outcome="ok"}': "6000",
        'legit_items_total{worker="w",model="m",outcome="model_failed"}': "50",
    },
    "EmbeddingDeadLetters": {f"legit_dead_letters_total{W}": "0+1"},
    "EmbeddingBacklogSlow": {f"legit_backlog_seconds{W}": "3700"},
    "EmbeddingBacklogOld": {'legit_backlog_oldest_seconds{worker="w",source="stream:a"}': "3700"},
    "EmbeddingModelErrors": {'legit_items_total{worker="w",model="m",outcome="model_failed"}': "0+70"},
    "EmbeddingResultsNotWritten": {f"legit_unwritten_results{W}": "1100"},
    "EmbeddingWriteRetries": {'legit_retries_total{worker="w",stage="write"}': "0+7"},
    "EmbeddingSlowQueue": {'legit_queue_seconds_bucket{worker="w",model="m",le="30.0"}': "0+94"},
    "EmbeddingOutOfMemory": {f"legit_out_of_memory_total{WM}": "0+0.5"},
    "EmbeddingSmallBatches": {f"legit_batch_items_count{WM}": "0+200"},
}
"""What differs where exactly this alert fires; None leaves a series out."""


def test_every_alert_has_its_case() -> None:
    assert set(FIRES) == {rule["alert"] for group in alerts()["groups"] for rule in group["rules"]}


def test_each_fires_alone_and_none_where_all_is_well(tmp_path: Path) -> None:
    scenes = [_scene("all is well", {}, []), *(_scene(name, changes, [name]) for name, changes in FIRES.items())]
    document = {"rule_files": [str(DEPLOY / "alerts.yml")], "evaluation_interval": "1m", "tests": scenes}
    (tmp_path / "tests.yml").write_text(json.dumps(document))  # JSON is YAML
    assert promtool is not None
    run = subprocess.run(
        [promtool, "test", "rules", tmp_path / "tests.yml"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def _scene(name: str, changes: dict[str, str | None], firing: list[str]) -> dict[str, Any]:
    series = {key: value for key, value in (WELL | changes).items() if value is not None}
    return {
        "name": name,
        "interval": "1m",
        "input_series": [
            {"series": key, "values": f"{value}x{HOURS}" if "+" in value else f"{value}+0x{HOURS}"}
            for key, value in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "100m",
                "exp_samples": [{"labels": f'{{alertname="{each}"}}', "value": 1} for each in firing],
            }
        ],
    }
