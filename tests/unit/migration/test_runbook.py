"""docs/migration.md says what there is."""

from __future__ import annotations

import re
from pathlib import Path

RUNBOOK = (Path(__file__).parents[3] / "docs" / "migration.md").read_text(encoding="utf-8")


def test_every_step_has_its_way_back():
    steps = re.split(r"^## \d+\. ", RUNBOOK, flags=re.MULTILINE)[1:]
    assert len(steps) == 8
    assert all("**Way back" in step for step in steps)
