"""A fleet that an autoscaler grows and shrinks loses nothing, and repeats nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fleet.controller import Policy
from tests.fleet.proof import prove

if TYPE_CHECKING:
    from pathlib import Path

POLICY = Policy(target=500, most=3, ramp_s=0.5, stabilisation_s=1.0, grace_s=60.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_come_and_go_and_die(tmp_path: Path) -> None:
    proof = prove(tmp_path, tasks=6000, waves=1, policy=POLICY, kill=1)
    assert (proof.answered, proof.duplicates, proof.workers) == (6000, 0, 3)
    assert (proof.stopped_busy, proof.killed) == (1, 1)
    assert proof.made > 3, "what died was replaced"
    assert proof.faults == ()
