"""The check that this package's application runs on a suitable pool."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE
from celery.utils.log import get_logger

from legit_embedding import process
from legit_embedding.telemetry import logs

logger = get_logger(__name__)

PREFORK = "celery.concurrency.prefork"


class SuitablePool(bootsteps.Step):
    """Rejects the pool whose processes would each load every model; on all others, keeps secrets out of the log."""

    def include_if(self, parent: Any) -> bool:  # noqa: ANN401 - Celery's worker
        """Check the pool when the worker is created, before any pool is started.

        Raises:
            WorkerShutdown: the pool is prefork; the reason is logged in one line.
        """
        logs.dress(as_json=process.settings().telemetry.json_logs)
        if parent.pool_cls.__module__ == PREFORK:
            logger.critical(
                "legit_embedding cannot start: each process of the prefork pool would load every model for itself: "
                "use --pool=gpubatch, or threads or solo for a prep-only worker"
            )
            raise WorkerShutdown(EX_FAILURE)
        return False
