"""The worker pool: ordinary tasks run on threads, embedding tasks as continuations of the pipeline."""

from __future__ import annotations

import gc
import math
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.concurrency.base import BasePool
from celery.exceptions import Reject, WorkerShutdown
from celery.platforms import EX_FAILURE
from celery.utils import threads as celery_threads
from celery.utils.log import get_logger
from celery.worker import state
from kombu.asynchronous import get_event_loop

from legit_embedding import process, progress
from legit_embedding.broker.acks import run_ready_acknowledgements
from legit_embedding.broker.prefetch import Prefetch
from legit_embedding.broker.refusals import Refusals
from legit_embedding.broker.step import BrokerStep
from legit_embedding.broker.unread import UnreadQueues
from legit_embedding.control import overrides as control
from legit_embedding.errors import ConfigError
from legit_embedding.pool.cold_signals import ColdSignals
from legit_embedding.pool.greenlets import GreenletThread
from legit_embedding.pool.readiness import Readiness
from legit_embedding.pool.stored_results import follow_master, store_together
from legit_embedding.pool.task_run import Callbacks, PoolJob
from legit_embedding.pool.threads import WorkerThreads
from legit_embedding.pool.time_limits import Clock, Limits
from legit_embedding.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.pipeline.pipeline import Pipeline

logger = get_logger(__name__)

COLD_STOP_S = 5.0
"""The longest that each set of threads may take to end at a cold shutdown, in seconds."""
_DRAIN_TICK_S = 0.05
GIVE_BACK_S = 1.0
"""The last part of `shutdown_s`, in seconds: a batch on the device may still be answered, the rest is given back."""
_BEHIND = 8
"""The number of steps that may wait for a tracing thread before the next thread is used too."""
_YOUNG = 10_000
"""The objects made, less those freed, after which the garbage collector looks at the newest; 700 by default."""


class TaskPool(BasePool):
    """Celery's pool interface over the pipeline.

    ``-c`` is the number of prep threads, of threads for ordinary tasks, and of threads that trace embedding tasks. The
    number of embedding tasks in flight is bounded by the prefetch count, which follows the engine's capacity.
    """

    body_can_be_buffer = True
    signal_safe = False
    task_join_will_block = True

    pipeline: Pipeline | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the base class's own signature
        super().__init__(*args, **kwargs)
        self.limit: int = self.limit or 1
        self._jobs: set[PoolJob] = set()
        self._drained = threading.Condition()
        self._broken = False
        self._stopped = False
        self._ordinary = WorkerThreads(self.limit, "task", self._begin_thread)
        self._continuations: list[GreenletThread] = []
        self._clock = Clock()
        self._cold_signals = ColdSignals()
        self.app.steps["consumer"].update((Prefetch, BrokerStep, Refusals, UnreadQueues))
        control.register()
        logs.dress(as_json=process.settings().telemetry.json_logs)
        progress.show()
        self._readiness = Readiness(time.monotonic())

    def on_start(self) -> None:
        """Load the models and start the pipeline; the worker is ready only after this.

        Raises:
            WorkerShutdown: the worker cannot start with a setting or a model; the reason is logged in one line.
        """
        if celery_threads.USE_FAST_LOCALS:
            self._refuse("USE_FAST_LOCALS is set, but gpubatch needs Celery's greenlet-aware locals: unset it")
        _, nodename = self.options.get("initargs") or (None, None)
        try:
            self.pipeline = process.start(nodename=nodename, threads=self.limit, on_fatal=self._on_fatal)
        except ConfigError as error:
            self._refuse(str(error))
        process.current().queues = tuple(self.app.amqp.queues.consume_from)
        self._readiness.expect(process.current())
        self._begin_thread()
        self._continuations[:] = [GreenletThread(f"trace-{n}") for n in range(1, self.limit + 1)]
        for thread in self._continuations:
            thread.begin(partial(self._begin_thread, store_together))
            thread.start()
        process.current().watched.extend(self._continuations)
        # The libraries' objects, hundreds of thousands of them, are permanent: scanning them in every collection costs
        # a busy worker almost half of its throughput.
        gc.collect()
        gc.freeze()
        # A task's objects are freed with it, without a collection; by default several come by while it is in flight.
        gc.set_threshold(_YOUNG)
        self._cold_signals.watch()

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **options: Any,  # noqa: ANN401 - some are for other pools
    ) -> PoolJob:
        """Start one task; called on the worker's event loop.

        Raises:
            Reject: the pool is stopped; the message goes back to its queue. After a cold stop the event loop goes on
                from where it was, which may be with a message in its hands.
        """
        if self._stopped:
            message = "the pool is stopped and takes no more tasks"
            raise Reject(message, requeue=True)
        job = PoolJob(
            partial(target, *args, **(kwargs or {})),
            Callbacks(accept_callback, callback, options.get("error_callback"), options.get("timeout_callback")),
            self._finished,
            limits=Limits(
                options.get("soft_timeout") or self.options.get("soft_timeout"),
                options.get("timeout") or self.options.get("timeout"),
            ),
            clock=self._clock,
            deferred=bool(args) and self._is_deferred(args[0]),
        )
        with self._drained:
            self._jobs.add(job)
        if job.deferred:
            self._continuation().begin(job.run, owner=job)
        else:
            self._ordinary.submit(job)
        return job

    def on_stop(self) -> None:
        """Finish accepted tasks within `shutdown_s` (warm) or only answers being written (cold); give the rest back.

        Ordinary tasks that have begun are finished at a warm stop, as on every pool: their messages may be
        acknowledged already.
        """
        if self.pipeline is not None:
            self.pipeline.stop_reading()
        self._leave_to_others()
        within = self._finish_in_budget()
        self._stopped = True
        # Answers being written are still confirmed; all other embedding tasks are given back: rejected for requeueing.
        process.stop(within)
        for thread in self._continuations:
            thread.stop(COLD_STOP_S)
        while not self._is_cold and self._has_ordinary_jobs():
            self._turn_event_loop()
            self._wait_for_jobs(_DRAIN_TICK_S)
        self._clock.close()
        self._ordinary.stop(timeout=0 if self._is_cold else COLD_STOP_S)
        if not self._is_cold:  # a cold stop may run in a signal handler, under any lock that the loop may hold
            self._turn_event_loop()

    def _finish_in_budget(self) -> float:
        """Wait for accepted tasks; returns the seconds left for ending the pipeline, infinite if none is unfinished."""
        budget_s = process.settings().shutdown_s
        deadline = time.monotonic() + budget_s - GIVE_BACK_S
        while not self._is_cold and not self._wait_until_drained(_DRAIN_TICK_S):
            self._turn_event_loop()
            in_flight = self.pipeline.in_flight if self.pipeline is not None else 0
            if in_flight and time.monotonic() >= deadline:
                logger.warning("%d items cannot be finished in shutdown_s = %g s: given back", in_flight, budget_s)
                return GIVE_BACK_S
        return math.inf

    def _leave_to_others(self) -> None:
        """Give up ordinary tasks that have not begun, as the ``threads`` pool does: their messages are requeued."""
        jobs = [run for run in self._ordinary.take_back() if isinstance(run, PoolJob)]
        for job in jobs:
            self._finished(job)
        if jobs:
            logger.info("%d tasks that have not begun are left to other workers", len(jobs))

    def on_terminate(self) -> None:
        """Stop at once; unacknowledged messages return to the broker."""
        process.stop()

    def grow(self, n: int = 1) -> None:
        """Add `n` threads."""
        self._resize(self.limit + n)

    def shrink(self, n: int = 1) -> None:
        """Remove `n` threads, down to one."""
        self._resize(max(1, self.limit - n))

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Do nothing at a cold shutdown: a thread cannot be killed, and the message stays unacknowledged."""

    @property
    def prefetch(self) -> int:
        """The number of unacknowledged messages that the worker should hold."""
        return self.pipeline.prefetch if self.pipeline is not None else 0

    def delivery_tags(self) -> set[str]:
        """The broker's tags of the messages in progress."""
        with self._drained:
            return {tag for job in self._jobs if (tag := job.delivery_tag) is not None}

    def _resize(self, limit: int) -> None:
        self.limit = limit
        self._ordinary.resize(limit)
        if self.pipeline is not None:
            self.pipeline.resize(limit)

    def _is_deferred(self, name: str) -> bool:
        return bool(getattr(self.app.tasks.get(name), "deferred", False))

    def _continuation(self) -> GreenletThread:
        """The first thread that is not behind: a few busy threads cost less than many that are woken for each task."""
        threads = self._continuations
        return next((thread for thread in threads if thread.behind < _BEHIND), None) or min(
            threads, key=lambda thread: thread.behind
        )

    def _begin_thread(self, *steps: Callable[[object], None]) -> None:
        try:
            for step in (follow_master, *steps):
                step(self.app.backend)  # Celery has one for each thread
        except Exception:
            logger.exception("The result backend cannot be used")  # and each task that has a result will say so too

    def _finished(self, job: PoolJob) -> None:
        if not job.deferred and job.thread not in {None, threading.current_thread()}:
            self._ordinary.abandon(job.thread)
        with self._drained:
            self._jobs.discard(job)
            if not self._jobs:
                self._drained.notify_all()

    def _wait_until_drained(self, timeout: float) -> bool:
        # The tasks of other sources are finished too.
        return self._wait_for_jobs(timeout) and (self.pipeline is None or self.pipeline.drain(timeout))

    def _wait_for_jobs(self, timeout: float) -> bool:
        with self._drained:
            return self._drained.wait_for(lambda: not self._jobs, timeout)

    def _has_ordinary_jobs(self) -> bool:
        with self._drained:
            return any(not job.deferred for job in self._jobs)

    def _turn_event_loop(self) -> None:
        # The event loop is not running any more, but signals, heartbeats and acknowledgements depend on it.
        self._cold_signals.handle()
        hub = get_event_loop()
        if hub is not None:
            hub.fire_timers()
            run_ready_acknowledgements(hub)

    @property
    def _is_cold(self) -> bool:
        return bool(state.should_terminate) or self._broken

    def _refuse(self, reason: str) -> None:
        logger.critical("legit_embedding cannot start: %s", reason)
        raise WorkerShutdown(EX_FAILURE)

    def _on_fatal(self, cause: BaseException) -> None:
        logger.critical("The worker cannot go on: %r", cause, exc_info=cause)
        self._broken = True
        state.should_stop = EX_FAILURE
        # A worker that fails to stop must not appear alive.
        last_resort = threading.Timer(2 * COLD_STOP_S, os._exit, (EX_FAILURE,))
        last_resort.daemon = True
        last_resort.start()

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        info |= {"max-concurrency": self.limit, "threads": len(self._ordinary), "in-flight": len(self._jobs)}
        # The prefork pool lists its child processes under this key.
        info["processes"] = [os.getpid()]
        if self.pipeline is not None:
            info |= self.pipeline.info()
        return info
