"""Registration of the embedding tasks with every Celery application that imports them, like shared tasks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from celery import _state, shared_task
from celery.local import Proxy

from legit_embedding import process
from legit_embedding.errors import ConfigError
from legit_embedding.task import EmbeddingTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from legit_embedding.config import TaskNames

STREAM_STEP = "legit_embedding.pool.stream_step:StreamStep"


def names() -> TaskNames:
    """The task names from the settings.

    Raises:
        SystemExit: a setting is invalid; the reason is given in one line.
    """
    try:
        return process.settings().task_names
    except ConfigError as error:
        # The celery command prints a traceback for any other exception.
        reason = f"legit_embedding: {error}"
        raise SystemExit(reason) from None


def entrypoint(name: str, *, batch: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Declare a task with this name in every application.

    The returned proxy resolves to the task in the current application, so that ``delay`` sends over that application's
    broker to its queue; if there is no current application, this package's own is used.
    """

    def declare(run: Callable[..., Any]) -> Any:  # noqa: ANN401 - Celery's proxy
        shared_task(bind=True, base=EmbeddingTask, name=name, in_batches=batch)(run)
        return Proxy(partial(_in_current_app, name), __doc__=run.__doc__)

    return declare


def _in_current_app(name: str) -> EmbeddingTask:
    app = _state._tls.current_app or _state.default_app  # noqa: SLF001 - `current_app` would make a default one
    if app is None or app.main == "default":  # Celery's fallback application, used if none was created
        from legit_embedding.celery import app

        app.loader.import_default_modules()
    task: EmbeddingTask = app.tasks[name]
    return task


def _add_stream_step(app: Celery) -> None:
    app.steps["worker"].add(STREAM_STEP)


_state.connect_on_app_finalize(_add_stream_step)
for _app in _state._get_active_apps():  # noqa: SLF001 - as `shared_task` does
    if _app.finalized:
        _add_stream_step(_app)
