"""The worker's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery.utils.nodenames import default_nodename

if TYPE_CHECKING:
    from legit_embedding.config import Settings


def identity(settings: Settings, nodename: str | None = None) -> str:
    """Return the worker's name, used everywhere: ``LEGIT_WORKER_ID`` or else the Celery node name (``-n``)."""
    return settings.worker_id or nodename or default_nodename(None)
