"""What the acceptance tests of the task stream share with ``scripts/soak``, which runs them with more tasks."""

from __future__ import annotations

import os

TASKS = int(os.environ.get("SOAK_TASKS", "1000"))
"""How many tasks a scenario has."""
PATIENCE_S = 60 + TASKS / 50
"""How long a scenario's tasks may take before the test fails."""
SEED = 20


def names(prefix: str, count: int = TASKS) -> list[str]:
    """Task ids."""
    return [f"{prefix}-{number}" for number in range(count)]
