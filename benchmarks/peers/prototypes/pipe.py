"""The driver of a prototype without a queue of its own: a list of tasks per line in, an answer per line out."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

answers = sys.stdout
sys.stdout = sys.stderr  # what a library prints is no answer


def lists() -> Iterator[list[dict[str, Any]]]:
    """The lists of tasks, as they come."""
    for line in sys.stdin:
        yield json.loads(line)


def answer(task: dict[str, Any], vector: str) -> None:
    """Say that a task is done."""
    print(json.dumps({"task_id": task["task_id"], "at": time.time(), "embedding": vector}), file=answers, flush=True)
