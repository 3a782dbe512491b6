"""Embedding tasks in any Celery application: each that includes them has them on its own broker and queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import _state
from celery.local import Proxy

from legit_embedding.task import EmbeddingTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

STREAM_STEP = "legit_embedding.sources.bootstep:StreamStep"


def embedding_task(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Make an embedding task of a function whose first parameter is the task.

    Like `celery.shared_task`, save that a program without an application of its own uses this package's.

    Args:
        name: the task's name.
    """

    def decorate(run: Callable[..., Any]) -> Any:  # noqa: ANN401 - a proxy of a Celery task
        def add_to(app: Celery) -> None:
            app._task_from_fun(run, name=name, bind=True, base=EmbeddingTask)  # noqa: SLF001 - as shared_task does
            app.steps["worker"].add(STREAM_STEP)

        _state.connect_on_app_finalize(add_to)
        for app in _state._get_active_apps():  # noqa: SLF001
            if app.finalized:
                add_to(app)
        return Proxy(lambda: current_app().tasks[name])

    return decorate


def current_app() -> Celery:
    """The application that a program works with: its own where it has one, or else this package's."""
    own: Celery | None = _state._tls.current_app or _state.default_app  # noqa: SLF001 - the public way makes a new one
    if own is not None:
        return own
    from legit_embedding.celery import app

    return app
