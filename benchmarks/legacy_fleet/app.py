"""The old fleet's Celery application."""

from __future__ import annotations

import redis
from celery import Celery

from benchmarks.legacy_fleet.queues import PREP_QUEUE
from legit_embedding.config import get_settings

settings = get_settings()


def make_app() -> Celery:
    """The application of one worker."""
    app = Celery("legacy_fleet", broker=settings.redis_url, backend=settings.redis_url)
    app.conf.update(
        task_default_queue=PREP_QUEUE,
        task_ignore_result=True,
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
    )
    return app


def connect() -> redis.Redis:
    """A connection for results and telemetry."""
    return redis.Redis.from_url(settings.redis_url)
