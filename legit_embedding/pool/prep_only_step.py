"""A bootstep that starts the pipeline of a prep-only worker, whose pool starts none."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE
from celery.utils.log import get_logger

from legit_embedding import process
from legit_embedding.errors import ConfigError
from legit_embedding.task import HANDOFF_QUEUE

logger = get_logger(__name__)


class PrepOnlyStep(bootsteps.StartStopStep):
    """Starts the pipeline with the worker, so that it shows itself, and its health, before its first task."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, parent: Any) -> bool:  # noqa: ANN401 - Celery's worker
        """True if the profile names the queue of a worker with a device."""
        return bool(parent.app.conf.get(HANDOFF_QUEUE))

    def start(self, parent: Any) -> None:  # noqa: ANN401
        """Start the pipeline.

        Raises:
            WorkerShutdown: a setting or a model is invalid; the reason is logged in one line.
        """
        try:
            process.current(prep_only=True, nodename=parent.hostname)
        except ConfigError as error:
            logger.critical("legit_embedding cannot start: %s", error)
            raise WorkerShutdown(EX_FAILURE) from None
