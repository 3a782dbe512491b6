"""The log of what a worker is doing, which an operator sees whatever the log level: Celery's own default is WARNING."""

from __future__ import annotations

import logging

logger = logging.getLogger("legit_embedding.progress")


def show() -> None:
    """Have the progress of this process logged at any log level."""
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
