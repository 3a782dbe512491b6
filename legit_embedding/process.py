"""The single pipeline of this process."""

from __future__ import annotations

import atexit
import math
import os
import threading
from typing import TYPE_CHECKING

from legit_embedding.config import get_settings as settings
from legit_embedding.telemetry.identity import identity
from legit_embedding.telemetry.tracing import make_tracer

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.pipeline.pipeline import Pipeline
    from legit_embedding.telemetry.heartbeat import Heartbeat

__all__ = ["current", "is_running", "set_up", "settings", "start", "stop"]

_lock = threading.Lock()
_pipeline: Pipeline | None = None
_heartbeat: Heartbeat | None = None
_owner: int | None = None


def start(
    nodename: str | None,
    threads: int,
    *,
    prep_only: bool = False,
    exclusive: bool = True,
    on_fatal: Callable[[BaseException], None] | None = None,
) -> Pipeline:
    """Create and start the process's pipeline.

    Args:
        nodename: the Celery worker's node name; None outside of a worker, when the process publishes no heartbeat.
        threads: the number of prep threads.
        prep_only: as for the pipeline.
        exclusive: whether to refuse to start if another living process has the same identity.
        on_fatal: called once when the process has to end: the device has failed permanently, or a thread has died.

    Raises:
        ConfigError: the worker cannot start with a setting or a model.
    """
    set_up()
    # Imports torch, which producers that only import the tasks do not need.
    from legit_embedding.pipeline.pipeline import Pipeline
    from legit_embedding.sources.http.source import HttpSource
    from legit_embedding.telemetry.heartbeat import Heartbeat

    global _pipeline, _heartbeat, _owner
    worker = identity(settings(), nodename)
    tracer = make_tracer(worker) if settings().telemetry.traces else None
    made = Pipeline(settings(), worker, threads, prep_only=prep_only, on_fatal=on_fatal, tracer=tracer)
    heartbeat = Heartbeat(made, exclusive=exclusive, on_fatal=on_fatal) if nodename is not None else None
    try:
        if heartbeat is not None:
            heartbeat.start()
            if exclusive and settings().http.port:
                # Before the models are loaded: probes ask from the start on.
                made.add_source(HttpSource(made, heartbeat.state))
        made.start()
    except BaseException:
        made.stop()
        if heartbeat is not None:
            heartbeat.stop()
        raise
    _pipeline, _heartbeat, _owner = made, heartbeat, os.getpid()
    return made


def set_up() -> None:
    """Set what must be set before torch is imported or a thread is started."""
    from legit_embedding.engine.device.allocator import expand_segments
    from legit_embedding.engine.device.nvml import count_as_the_driver_does
    from legit_embedding.prep.cpus import wait_asleep
    from legit_embedding.prep.memory import keep_few_primitives, keep_one_heap

    wait_asleep()
    keep_few_primitives()
    keep_one_heap()
    expand_segments()
    count_as_the_driver_does()


def heartbeat() -> Heartbeat | None:
    """The heartbeat of this process, if it is a worker with a pipeline."""
    return _heartbeat if is_running() else None


def current(*, prep_only: bool = False, nodename: str | None = None) -> Pipeline:
    """The process's pipeline, created at the first task on pools that do not start one (solo, threads, eager).

    Args:
        prep_only: as for the pipeline.
        nodename: the Celery worker's node name; None outside of a worker.

    Raises:
        ConfigError: the pipeline cannot start with a setting or a model.
    """
    pipeline = _pipeline
    if pipeline is not None and is_running():
        return pipeline
    with _lock:
        if _pipeline is not None and is_running():
            return _pipeline
        from legit_embedding.prep.cpus import available_cpus

        atexit.register(stop)
        return start(nodename, available_cpus(), prep_only=prep_only, exclusive=False)


def is_running() -> bool:
    """True if this process has a pipeline."""
    return _pipeline is not None and _owner == os.getpid()


def stop(within: float = math.inf) -> None:
    """Stop the pipeline, if there is one, in about so many seconds; unanswered tasks are given back. Idempotent."""
    global _pipeline, _heartbeat
    pipeline, _pipeline = _pipeline, None
    heartbeat, _heartbeat = _heartbeat, None
    if pipeline is not None and _owner == os.getpid():
        pipeline.stop(within)
        if heartbeat is not None:
            heartbeat.stop()
