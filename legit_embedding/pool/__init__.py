"""The Celery worker pool ``gpubatch``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from legit_embedding.pool.gpubatch import TaskPool

__all__ = ["TaskPool"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's __getattr__ returns anything
    # Imported lazily: producers import the package too, and need none of the worker's modules.
    if name == "TaskPool":
        from legit_embedding.pool.gpubatch import TaskPool

        return TaskPool
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
