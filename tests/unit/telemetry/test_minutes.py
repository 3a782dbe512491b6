from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from legit_embedding.pipeline.protocols import SourceStats
from legit_embedding.pipeline.snapshot import Snapshot
from legit_embedding.sinks.stats import WriterStats
from legit_embedding.telemetry.minutes import Minutes

START = Snapshot(
    at=100.0,
    phase="running",
    dead_thread=None,
    progress=None,
    faults=(),
    in_flight=0,
    prep_waiting={},
    engine=None,
    writer=WriterStats(),
    source=SourceStats(),
    outcomes={("clip", "ok"): 10, ("clip", "expired"): 3},
    truncated={},
    prep_retries={},
)


@pytest.fixture(autouse=True)
def _progress(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def lines(caplog: pytest.LogCaptureFixture, *later: dict[str, Any]) -> list[str]:
    minutes = Minutes()
    for changes in ({}, *later):
        minutes.tick(replace(START, **changes))
    return caplog.messages


def test_a_busy_minute_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = {("clip", "ok"): 6010, ("minilm", "ok"): 600, ("clip", "expired"): 4, ("", "unknown_model"): 2}
    busy = {"at": 160.0, "in_flight": 64, "prep_waiting": {"clip": 1340}, "outcomes": outcomes}
    assert lines(caplog, {"at": 130.0, "in_flight": 5}, busy, busy | {"at": 165.0}) == [
        "110.0 items/s, 1,340 waiting, 64 in flight; errors in the last 60 s: unknown_model 2, expired 1"
    ]


def test_without_errors_none_are_named(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog, {"at": 160.0, "in_flight": 1}) == ["0.0 items/s, 0 waiting, 1 in flight"]


def test_an_idle_worker_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog, {"at": 160.0}, {"at": 220.0}) == []
