"""The pipeline of one process: its assembled parts, and the submission of tasks to them."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

from legit_embedding.errors import TaskError
from legit_embedding.models.registry import Registry
from legit_embedding.pipeline.accounts import Accounts
from legit_embedding.pipeline.admission import Admission
from legit_embedding.pipeline.backlog import BacklogBoard
from legit_embedding.pipeline.backpressure import Backpressure
from legit_embedding.pipeline.held_tasks import HeldBySource
from legit_embedding.pipeline.job import Job
from legit_embedding.pipeline.parking import Parking
from legit_embedding.pipeline.prepare import Preparation, give_back
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
from legit_embedding.wire.task import TaskObject

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping

    from legit_embedding.config import Kind, Settings
    from legit_embedding.errors import ErrorCode
    from legit_embedding.models.backend import Recipe
    from legit_embedding.pipeline.caller import Caller, Tracer
    from legit_embedding.pipeline.protocols import Source
    from legit_embedding.prep_processes.processes import PrepProcesses
    from legit_embedding.redis_io.health import Outage
    from legit_embedding.wire.result import Origin
    from legit_embedding.wire.task import HandOff, TokenIds

logger = logging.getLogger(__name__)

TEXTS_AT_ONCE, MOST_TEXTS_AT_ONCE = 32, 256
"""The least and the most waiting texts that a prep thread tokenises together."""
TEXTS_S = 0.002
"""The time for which a prep thread takes more texts than the least, in seconds: the first of them wait for the last."""
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
        self._admission = Admission(settings.streams, self.registry, tracer)
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
        self._processes = _prep_processes(settings)
        self._recipes: dict[str, Recipe] = {}
        self._room = Backpressure(lambda: self._holds.room(self.in_flight), self.writer, self.processor.has_room)
        self._accounts = Accounts(queues, handoffs, self._parking, self._holds.by_origin, on_closed=self._room.closed)
        self.stage: PrepStage[Job] = PrepStage(
            Preparation(
                ContentReader(self._fetcher, settings.fetch, settings.image_roots),
                handoffs,
                self._recipe,
                self.processor,
                self._retry,
                settings.fetch.max_pixels,
                self._accounts.counts.prepared,
            ),
            has_room=self._room.for_prep,
            threads=self._prep_threads(threads),
            on_crash=_answer_crash,
            batch=self._prep_batch,
            gather_s=GATHER_S,
            is_interactive=lambda job: job.interactive,
        )
        self._room.prep_is(self.stage.wake)
        self._prober = Prober(self.registry, self.processor, settings.engine.probe_s, lambda: self.phase == "running")

    def start(self) -> None:
        """Load the models; the pipeline accepts tasks when this returns.

        Raises:
            ConfigError: a model does not load.
        """
        if self.prep_only:
            forbid_cuda_in_process()
        self.writer.start()
        self._start_processes()
        self.processor.start()
        self.stage.start()
        self.phase = "running"
        self._prober.start()

    def submit(
        self,
        raw: object,
        origin: Origin,
        caller: Caller,
        *,
        accepts: type[TaskObject] | type[HandOff] | type[TokenIds] = TaskObject,
        kind: Kind | None = None,
        expires: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Job:
        """Accept a task; never blocks.

        Args:
            raw: the task as the producer sent it, decoded from JSON.
            origin: the message or entry that carried it.
            caller: told exactly once how the task ended.
            accepts: the wire object it must be.
            kind: the kind that the entrypoint takes; None for either.
            expires: Unix time after which the source no longer wants the answer, besides the task's own deadline.
            headers: the message headers with the producer's trace context; if None, the task's own fields may hold it.
        """
        job = self._job(origin, caller)
        if self._admits(job, raw, accepts, kind, expires, headers):
            self._take_on([job])
        return job

    def submit_all(self, tasks: Iterable[tuple[object, Origin, Caller]]) -> None:
        """Accept tasks that one source brings together, as `submit` does each of them; never blocks."""
        admitted: dict[str, list[Job]] = {}
        for raw, origin, caller in tasks:
            job = self._job(origin, caller)
            if self._admits(job, raw):
                admitted.setdefault(job.model, []).append(job)
        for jobs in admitted.values():
            self._take_on(jobs)

    def refuse(self, raw: object, origin: Origin, error: TaskError, caller: Caller) -> None:
        """Answer a task with an error, without validating it further."""
        job = self._job(origin, caller)
        self._accounts.opened([job])
        try:
            self._admission.read_address(job, raw)
        except Exception as problem:  # noqa: BLE001
            job.crashed("reading the task", problem)
        else:
            job.failed(error)

    def cancel(self, job: Job, code: ErrorCode) -> None:
        """Answer a task with this code unless its vector is already being written."""
        job.cancelled = code
        self.processor.cancel(job, code)

    @property
    def in_flight(self) -> int:
        """The number of tasks accepted and not yet closed."""
        return self._accounts.in_flight

    def room(self) -> int:
        """The number of further tasks that a source may bring."""
        return self._room.for_sources()

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
        self.stage.resize(self._prep_threads(threads))

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
            prep_process_deaths=None if self._processes is None else self._processes.deaths,
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
        if self._processes is not None:
            self._processes.close()
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

    def _start_processes(self) -> None:
        if self._processes is None:
            return
        for queue in self.registry.backends():
            self.registry.recipe(queue)  # its files are downloaded by this process, if at all
        # Before the device is measured: they take memory, and for some seconds a core.
        self._processes.start()
        self.watched.append(self._processes.thread)
        self.watch(self._processes.outage)

    def _prep_threads(self, threads: int) -> int:
        # Those that wait for a process use no core: others download meanwhile, and have the next item ready for it.
        return threads + (self.settings.prep.processes if self._processes is not None else 0)

    def _recipe(self, queue: str) -> Recipe:
        recipe = self.registry.recipe(queue)
        if self._processes is None or self.registry.tower(queue).config.is_remote:
            return recipe
        if queue not in self._recipes:
            from legit_embedding.prep_processes.recipe import ProcessRecipe

            self._recipes[queue] = ProcessRecipe(recipe, queue, self._processes)
        return self._recipes[queue]

    def _admits(
        self,
        job: Job,
        raw: object,
        accepts: type[TaskObject] | type[HandOff] | type[TokenIds] = TaskObject,
        kind: Kind | None = None,
        expires: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """Admit a task; False if it is refused, and answered."""
        try:
            self._admission.admit(job, raw, accepts, kind, expires, headers)
        except Exception as error:  # noqa: BLE001 - nothing between a source and its answer leaves a task unsettled
            self._accounts.opened([job])
            _refuse(job, error)
            return False
        return True

    def _take_on(self, jobs: list[Job]) -> None:
        """Queue admitted jobs of one source and model for prep."""
        self._accounts.opened(jobs)
        try:
            self.stage.submit(jobs[0].model, *jobs)
        except Exception as error:  # noqa: BLE001
            for job in jobs:
                _refuse(job, error)

    def _prep_batch(self, model: str) -> int:
        # Texts are faster to tokenise together; an image may have to be downloaded first.
        if self.registry.tower(model).kind != "text":
            return 1
        each_s = self._accounts.counts.prep_seconds[model].mean
        return max(TEXTS_AT_ONCE, min(MOST_TEXTS_AT_ONCE, int(TEXTS_S / each_s))) if each_s else TEXTS_AT_ONCE

    def _retry(self, model: str, job: Job, delay_s: float) -> None:
        self._accounts.counts.prep_retried(model)
        self.stage.submit_later(model, job, delay_s)

    def _job(self, origin: Origin, caller: Caller) -> Job:
        # A client that waits gets its answer directly.
        sink = self._direct if origin.kind == "http" else self.writer
        return Job(origin, caller, sink, self._accounts)

    def _room_for_prep(self) -> None:
        self._room.prep_changed()

    def _room_for_all(self) -> None:
        self._room.changed()


def _prep_processes(settings: Settings) -> PrepProcesses | None:
    if not settings.prep.processes or all(model.is_remote for model in settings.models.values()):
        return None
    from legit_embedding.prep_processes.processes import PrepProcesses

    return PrepProcesses(settings.models, settings.prep.processes, settings.fetch.max_bytes)


def _refuse(job: Job, error: Exception) -> None:
    if isinstance(error, TaskError):
        job.failed(error)
    else:
        job.crashed("taking the task", error)


def _answer_crash(jobs: list[Job], error: BaseException) -> None:
    """Answer jobs after a failure of the prep stage itself, so that no task hangs."""
    for job in jobs:
        job.crashed("preparing the item", error)
