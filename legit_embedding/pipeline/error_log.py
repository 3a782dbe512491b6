"""The log of tasks that ended in an error."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from legit_embedding.pipeline.task_counts import MODEL_FAULTS

if TYPE_CHECKING:
    from legit_embedding.errors import TaskError

logger = logging.getLogger(__name__)

EVERY_S = 60.0


class ErrorLog:
    """Logs every error as INFO, but the first of its code in a minute louder: telemetry logs how many there were."""

    def __init__(self) -> None:
        self._loud: dict[str, float] = {}

    def tell(self, error: TaskError, task_id: str, model: str) -> None:
        """Log one task's error. Thread-safe: at worst two of the same code are loud."""
        level, now = logging.INFO, time.monotonic()
        if now - self._loud.get(error.code, -EVERY_S) >= EVERY_S:
            self._loud[error.code] = now
            level = logging.ERROR if error.code in MODEL_FAULTS else logging.WARNING
        extra = {"task_id": task_id, "model": model, "code": error.code}
        logger.log(level, "Task %s on %s ended in %s", task_id, model or "no model", error, extra=extra)
