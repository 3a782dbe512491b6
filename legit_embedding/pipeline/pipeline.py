"""The pipeline of one process: its assembled parts, and the submission of tasks to them."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

from legit_embedding.models.registry import Registry
from legit_embedding.pipeline.accounts import Accounts
from legit_embedding.pipeline.admission import ANY, Admission
from legit_embedding.pipeline.backlog import BacklogBoard
from legit_embedding.pipeline.backpressure import Backpressure
from legit_embedding.pipeline.held_tasks import HeldBySource
from legit_embedding.pipeline.intake import Intake
from legit_embedding.pipeline.job import Job
from legit_embedding.pipeline.parking import Parking
from legit_embedding.pipeline.prep_recipes import PrepRecipes
from legit_embedding.pipeline.prepare import Preparation, give_back, texts_at_once
from legit_embedding.pipeline.probe import Prober
from legit_embedding.pipeline.processors import make_processor
from legit_embedding.pipeline.snapshot import Phase, Snapshot, faults, together
from legit_embedding.prep.content import ContentReader
from legit_embedding.prep.cuda_guard import forbid_cuda_in_process
from legit_embedding.prep.fetch.fetcher import Fetcher
from legit_embedding.prep.handoff import HandOffDirectory
from legit_embedding.prep.images.slow_decoders import DECODERS
from legit_embedding.prep.stage import PrepStage
from legit_embedding.sinks.direct import DirectSink
from legit_embedding.sinks.writer import StreamWriter

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from legit_embedding.config import Settings
    from legit_embedding.errors import ErrorCode, TaskError
    from legit_embedding.pipeline.admission import Terms
    from legit_embedding.pipeline.caller import Caller, Tracer
    from legit_embedding.pipeline.protocols import Source
    from legit_embedding.redis_io.health import Outage
    from legit_embedding.wire.result import Origin

logger = logging.getLogger(__name__)

GATHER_S = 0.005
"""The time that a prep thread waits for more texts when they come in quick succession, in seconds."""
CLOSE_S, LEAST_CLOSE_S = 5.0, 0.5
"""The most and the least time that each part has to end, in seconds; the least is some round trips to Redis."""


class Pipeline:
    """Accepts tasks from any source and tells each task's caller exactly once how it ended.

    Args:
        settings: the process's settings.
        worker: the worker's identity.
        threads: the number of prep threads.
        prep_only: prepare tensors for another worker instead of embedding them.
        redis: False for a pipeline whose only source is HTTP, which writes to no stream.
        on_fatal: called once, from an engine thread, when the device has failed permanently.
        tracer: creates a trace per task; None for no traces.
    """

    def __init__(
        self,
        settings: Settings,
        worker: str,
        threads: int,
        *,
        prep_only: bool = False,
        redis: bool = True,
        on_fatal: Callable[[BaseException], None] | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.settings = settings
        self.worker = worker
        self.prep_only = prep_only
        self.queues: tuple[str, ...] = ()
        """The Celery queues that the worker reads."""
        self.registry = Registry(settings.models)
        self.phase: Phase = "starting"
        self.watched: list[threading.Thread] = []
        """Threads outside the pipeline that must be running for it to work."""
        self.outages: list[Outage] = []
        """The state of links outside the pipeline that deliver its tasks."""
        self.notices: dict[str, str] = {}
        """Warnings of a worker that is well otherwise, by subject."""
        self.backlog = BacklogBoard()
        self._tracer = tracer
        self._fetcher = Fetcher(settings.fetch)
        DECODERS.budget_s = settings.fetch.decode_s
        handoffs = HandOffDirectory(settings.handoff_dir)
        self._direct = DirectSink()
        self.writer: StreamWriter | DirectSink = self._direct
        if redis:
            self.writer = StreamWriter(settings.streams, settings.redis, worker, on_room=self._room_for_all)
        given = handoffs if prep_only else None
        self.processor = make_processor(
            settings,
            self.registry,
            given,
            self._room_for_prep,
            on_fatal,
            redis=redis,
            together=self.writer.together,
        )
        self._parking = Parking(settings.streams.claim_idle_ms / 1000)
        queues = self.registry.queues()
        self._holds = HeldBySource(queues, settings.engine, self.processor.full_batch)
        self._recipes = PrepRecipes(settings, self.registry)
        self._room = Backpressure(self._room_to_read, self.writer, self.processor.has_room)
        self._accounts = Accounts(queues, handoffs, self._parking, self._holds.by_origin, on_closed=self._room.closed)
        self.stage: PrepStage[Job] = PrepStage(
            Preparation(
                ContentReader(self._fetcher, settings.fetch, settings.image_roots),
                handoffs,
                self._recipes.of,
                self.processor,
                self._retry,
                settings.fetch.max_pixels,
                self._accounts.counts.prepared,
            ),
            has_room=self._room.for_prep,
            threads=threads + self._recipes.more_threads,
            on_crash=_answer_crash,
            batch=self._prep_batch,
            gather_s=GATHER_S,
            is_interactive=lambda job: job.interactive,
        )
        self._room.prep_is(self.stage.wake)
        self._intake = Intake(Admission(settings.streams, self.registry, tracer), self._accounts, self.stage)
        self._prober = Prober(self.registry, self.processor, settings.engine.probe_s, lambda: self.phase == "running")

    def start(self) -> None:
        """Load the models; the pipeline accepts tasks when this returns.

        Raises:
            ConfigError: a model does not load.
        """
        if self.prep_only:
            forbid_cuda_in_process()
        self.writer.start()
        # Before the device is measured: the processes take memory, and for some seconds a core.
        self._recipes.start()
        if (processes := self._recipes.processes) is not None:
            self.watched.append(processes.thread)
            self.watch(processes.outage)
        self.processor.start()
        self.stage.start()
        self.phase = "running"
        self._prober.start()

    def submit(
        self,
        raw: object,
        origin: Origin,
        caller: Caller,
        terms: Terms = ANY,
    ) -> Job:
        """Accept a task; never blocks.

        Args:
            raw: the task as the producer sent it, decoded from JSON.
            origin: the message or entry that carried it.
            caller: told exactly once how the task ended.
            terms: the source's conditions for it.
        """
        job = self._job(origin, caller)
        if self._intake.admits(job, raw, terms):
            self._intake.take_on([job])
        return job

    def submit_all(self, tasks: Iterable[tuple[object, Origin, Caller]]) -> None:
        """Accept tasks that one source brings together, as `submit` does each of them; never blocks."""
        admitted: dict[str, list[Job]] = {}
        for raw, origin, caller in tasks:
            job = self._job(origin, caller)
            if self._intake.admits(job, raw):
                admitted.setdefault(job.model, []).append(job)
        for jobs in admitted.values():
            self._intake.take_on(jobs)

    def refuse(self, raw: object, origin: Origin, error: TaskError, caller: Caller) -> None:
        """Answer a task with an error, without validating it further."""
        self._intake.refuse(self._job(origin, caller), raw, error)

    def cancel(self, job: Job, code: ErrorCode) -> None:
        """Answer a task with this code unless its vector is already being written."""
        job.cancelled = code
        self.processor.cancel(job, code)

    @property
    def in_flight(self) -> int:
        """The number of tasks accepted and not yet closed."""
        return self._accounts.in_flight

    def room(self, far: int = 0) -> int:
        """The number of further tasks that a source may bring.

        Args:
            far: the number of tasks that the way from the source's server holds; they don't count.
        """
        return self._room.for_sources(far)

    @property
    def sources(self) -> list[Source]:
        """The sources of tasks other than Celery: the task stream, HTTP."""
        return self._room.sources

    def add_source(self, source: Source) -> None:
        """Start a source that feeds this pipeline; it is stopped with it."""
        source.start()
        # Not earlier: a source whose thread is not running counts as dead.
        self.sources.append(source)

    def watch(self, outage: Outage) -> None:
        """Include the state of a link that delivers tasks in the worker's health."""
        if outage not in self.outages:
            self.outages.append(outage)

    def stop_reading(self) -> None:
        """Stop every source at once; the tasks they have read are still finished."""
        self.phase = "stopping"
        self._room.is_stopping = True
        self._parking.open()
        self._room.prep_changed()
        for source in self.sources:
            source.stop_reading()

    @property
    def prefetch(self) -> int:
        """The number of unacknowledged messages to hold at this moment; it follows the measured throughput."""
        return self._holds.prefetch

    def dead_thread(self) -> str | None:
        """The name of a thread that should be running and is not."""
        if not self.writer.alive():
            return "stream-writer"
        if not self.stage.is_whole():
            return "prep"
        for source in self.sources:
            if not source.alive():
                return source.name
        return next((thread.name for thread in self.watched if not thread.is_alive()), None)

    def resize(self, threads: int) -> None:
        """Change the number of prep threads."""
        self.stage.resize(threads + self._recipes.more_threads)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every task is closed; False if the timeout came first."""
        return self._accounts.wait_for_all(timeout)

    def snapshot(self) -> Snapshot:
        """All counters and states at this moment; holds no lock for long."""
        return Snapshot.now(
            phase=self.phase,
            dead_thread=self.dead_thread(),
            progress=self.processor.progress(),
            faults=tuple(faults(self.writer, self.outages, self.sources)),
            notices=tuple(self.notices.values()),
            probes=self._prober.faults(),
            in_flight=self.in_flight,
            prep_waiting={queue: self.stage.waiting(queue) for queue in self.registry.queues()},
            engine=self.processor.stats(),
            writer=self.writer.stats(),
            source=together([source.stats() for source in self.sources]),
            counts=self._accounts.counts,
            prep_process_deaths=None if self._recipes.processes is None else self._recipes.processes.deaths,
        )

    def stop(self, within: float = math.inf) -> None:
        """Stop all the threads in about so many seconds; what is not on the device or in writing is given back."""
        deadline = time.monotonic() + within

        def left() -> float:
            return min(CLOSE_S, max(LEAST_CLOSE_S, deadline - time.monotonic()))

        self.stop_reading()
        self._prober.close()
        give_back(self.stage.take_back())
        finished = self.stage.close(left())
        if self._recipes.processes is not None:
            self._recipes.processes.close()
            if not finished:  # what waited for a process is put off now
                self.stage.close(left())
        give_back(self.stage.take_back())
        self.processor.close(give_back=True, timeout=left())
        self.writer.close(left())
        for source in self.sources:
            source.close(left())
        self._fetcher.close()
        DECODERS.close()
        if self._tracer is not None:
            self._tracer.close()

    def info(self) -> dict[str, Any]:
        """Figures for ``celery inspect stats`` and Flower's pool page, which shows one value per line."""
        engine = self.processor.stats()
        batching = {f"batching {name}": str(model) for name, model in engine.models.items()} if engine else {}
        busy = {"device-busy": round(engine.busy, 3)} if engine else {}
        return batching | busy | {"waiting-for-prep": self.stage.waiting(), "prefetch": self.prefetch}

    def _prep_batch(self, model: str) -> int:
        # Texts are faster to tokenise together; an image may have to be downloaded first.
        if self.registry.tower(model).kind != "text":
            return 1
        return texts_at_once(self._accounts.counts.prep_seconds[model].mean)

    def _retry(self, model: str, job: Job, delay_s: float) -> None:
        self._accounts.counts.prep_retried(model)
        self.stage.submit_later(model, job, delay_s)

    def _job(self, origin: Origin, caller: Caller) -> Job:
        # A client that waits gets its answer directly.
        sink = self._direct if origin.kind == "http" else self.writer
        return Job(origin, caller, sink, self._accounts)

    def _room_to_read(self, far: int) -> int:
        # At a round trip of 77 ms and 20,000 tasks per second, 1,540 of them are on their way here at any moment, and
        # as many answers on their way to Redis: if they counted, a distant server would leave the device less to do.
        return self._holds.room(self.in_flight - self.writer.unconfirmed, far)

    def _room_for_prep(self) -> None:
        self._room.prep_changed()

    def _room_for_all(self) -> None:
        self._room.changed()


def _answer_crash(jobs: list[Job], error: BaseException) -> None:
    """Answer jobs after a failure of the prep stage itself, so that no task hangs."""
    for job in jobs:
        job.crashed("preparing the item", error)
