"""Prevents answers from being written to the queues that a worker reads."""

from __future__ import annotations

from typing import Any

from celery.signals import celeryd_after_setup

from legit_embedding.wire.reserved import reserve_queues


@celeryd_after_setup.connect
def _reserve(instance: Any, **_: object) -> None:  # noqa: ANN401 - Celery's worker
    reserve_queues(instance.app.amqp.queues)
