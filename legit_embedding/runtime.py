"""The one pipeline of this process."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

from legit_embedding.config import get_settings as settings
from legit_embedding.telemetry.identity import identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.pipeline import Pipeline

__all__ = ["current", "is_running", "settings", "start", "stop"]

_lock = threading.Lock()
_pipeline: Pipeline | None = None
_owner: int | None = None


def start(
    nodename: str | None,
    threads: int,
    *,
    prep_only: bool = False,
    on_fatal: Callable[[BaseException], None] | None = None,
) -> Pipeline:
    """Make and start the process's pipeline.

    Raises:
        ConfigError: a setting or a model that the worker cannot start with.
    """
    # Loads torch, which producers that only import the tasks do not need.
    from legit_embedding.pipeline import Pipeline

    global _pipeline, _owner
    made = Pipeline(settings(), identity(settings(), nodename), threads, prep_only=prep_only, on_fatal=on_fatal)
    try:
        made.start()
    except BaseException:
        made.stop()
        raise
    _pipeline, _owner = made, os.getpid()
    return made


def current(*, prep_only: bool = False) -> Pipeline:
    """The process's pipeline; made at the first task on a pool that did not start one (solo, threads, eager).

    Raises:
        ConfigError: a setting or a model that it cannot start with.
    """
    pipeline = _pipeline
    if pipeline is not None and is_running():
        return pipeline
    with _lock:
        if _pipeline is not None and is_running():
            return _pipeline
        from legit_embedding.prep.cpus import available_cpus

        atexit.register(stop)
        return start(None, available_cpus(), prep_only=prep_only)


def is_running() -> bool:
    """Whether this process has a pipeline."""
    return _pipeline is not None and _owner == os.getpid()


def stop() -> None:
    """Stop the pipeline, if there is one; what is not answered is given back. Idempotent."""
    global _pipeline
    pipeline, _pipeline = _pipeline, None
    if pipeline is not None and _owner == os.getpid():
        pipeline.stop()
