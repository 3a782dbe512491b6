"""The river, assembled: prep, engine and sink of one process, and the way of a task through them."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from legit_embedding.engine.engine import Engine
from legit_embedding.errors import GivenBackError, TaskError
from legit_embedding.job import Job
from legit_embedding.messages import Address, HandOff, TaskObject
from legit_embedding.models.registry import Registry
from legit_embedding.parking import Parking
from legit_embedding.prep.content import ContentReader
from legit_embedding.prep.fetch import Fetcher
from legit_embedding.prep.guard import forbid_cuda_in_process
from legit_embedding.prep.handoff import HandOffDirectory
from legit_embedding.prep.handover import HandOver
from legit_embedding.prep.stage import PrepStage
from legit_embedding.prep.work import Preparation, give_back
from legit_embedding.sinks.writer import StreamWriter
from legit_embedding.telemetry.tally import MODEL_FAULTS, UNKNOWN, Tally
from legit_embedding.telemetry.traces import make_tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from legit_embedding.config import Kind, Settings
    from legit_embedding.errors import ErrorCode
    from legit_embedding.job import Outcome, Settled
    from legit_embedding.messages import Origin, Result, Written
    from legit_embedding.outage import Outage
    from legit_embedding.sources.streams import StreamSource

logger = logging.getLogger(__name__)

TEXTS_AT_ONCE = 32
"""How many waiting texts a prep thread tokenises together."""
GATHER_S = 0.005
"""How long a prep thread lets more texts come when they come in quick succession."""
LEAST_PREFETCH = 256
CLOSE_S = 5.0
"""How long results that are being written may take when the pipeline stops, in seconds."""


class Pipeline:
    """Takes tasks from any source and settles each with a confirmed answer.

    Args:
        settings: the process's settings.
        worker: the worker's identity.
        threads: how many prep threads.
        prep_only: prepare tensors for another worker instead of embedding them.
        on_fatal: called once, from an engine thread, when the device is broken for good.
    """

    def __init__(
        self,
        settings: Settings,
        worker: str,
        threads: int,
        *,
        prep_only: bool = False,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.settings = settings
        self.worker = worker
        self.prep_only = prep_only
        self.registry = Registry(settings.models)
        self.tally = Tally(self.registry.names())
        self._tracer = make_tracer(worker) if settings.telemetry.traces else None
        self.writer = StreamWriter(settings.streams, settings.redis, worker, on_room=self._wake_all)
        self._fetcher = Fetcher(settings.fetch)
        self._handoffs = HandOffDirectory(settings.handoff_dir)
        self.engine: Engine | HandOver = (
            HandOver(self._handoffs)
            if prep_only
            else Engine(
                {name: self.registry[name] for name in self.registry.names()},
                settings.engine,
                settings.device,
                settings.precision,
                on_room=self._wake,
                on_fatal=on_fatal,
            )
        )
        self.stage: PrepStage[Job] = PrepStage(
            Preparation(
                ContentReader(self._fetcher, settings.fetch, settings.image_roots),
                self._handoffs,
                self.registry.recipe,
                self.engine,
                self._retry,
                settings.fetch.max_pixels,
                self.tally.prepared,
            ),
            has_room=self._has_room,
            threads=threads,
            on_crash=_answer_crash,
            batch=self._prep_batch,
            gather_s=GATHER_S,
        )
        self.phase: Literal["starting", "running", "stopping"] = "starting"
        self.sources: list[StreamSource] = []
        self.watched: list[threading.Thread] = []
        """Threads of others that the pipeline cannot do without."""
        self.outages: list[Outage] = []
        """Links of others that the pipeline's tasks come by."""
        self._changed = threading.Condition()
        self._parking = Parking(settings.streams.claim_idle_ms / 1000)
        self._in_flight = 0

    def start(self) -> None:
        """Load the models; the pipeline takes tasks when this returns.

        Raises:
            ConfigError: a model does not load.
        """
        if self.prep_only:
            forbid_cuda_in_process()
        self.writer.start()
        self.engine.start()
        self.stage.start()
        self.phase = "running"

    def submit(
        self,
        raw: object,
        origin: Origin,
        settled: Settled,
        *,
        accepts: type[TaskObject] | type[HandOff] = TaskObject,
        kind: Kind | None = None,
        expires: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Job:
        """Take a task over; never blocks.

        Args:
            raw: what the producer sent, as JSON gave it.
            origin: what brought it.
            settled: called exactly once, from one of the pipeline's threads; must be quick and not raise.
            accepts: which wire object it has to be.
            kind: the kind that the entrypoint takes; None for either.
            expires: Unix time after which the source no longer wants the answer, beside the task's own deadline.
            headers: the message's, for the producer's trace context; without them the task's own fields may have it.
        """
        job = self._job(origin, settled)
        try:
            self._read_address(job, raw)
            if self._tracer is not None:
                job.trace = self._tracer.begin(raw, headers)
            job.take(accepts.parse(raw), expires)
            self._admit(job, kind)
            self.stage.submit(job.model, job)
        except TaskError as error:
            job.failed(error)
        except Exception as error:  # noqa: BLE001 - nothing between a source and its answer leaves a task unsettled
            job.crashed("taking the task", error)
        return job

    def refuse(self, raw: object, origin: Origin, error: TaskError, settled: Settled) -> None:
        """Answer a task with an error without looking at it further."""
        job = self._job(origin, settled)
        try:
            self._read_address(job, raw)
        except Exception as problem:  # noqa: BLE001
            job.crashed("reading the task", problem)
        else:
            job.failed(error)

    def cancel(self, job: Job, code: ErrorCode) -> None:
        """Answer a task with this code unless its vector is already being written."""
        job.cancelled = code
        self.engine.cancel(job, code)

    @property
    def in_flight(self) -> int:
        """Tasks taken over and not yet settled."""
        return self._in_flight

    def room(self) -> int:
        """How many more tasks a source may read."""
        if self.writer.results_full or not self.writer.has_room():
            return 0
        return self.settings.engine.max_in_flight - self._in_flight

    def add_source(self, source: StreamSource) -> None:
        """Start a source that feeds this pipeline; it is stopped with it."""
        source.start()
        # Not before: a source whose thread does not run counts as dead.
        self.sources.append(source)

    def watch(self, outage: Outage) -> None:
        """Let the worker's health show the state of a link that tasks come by."""
        if outage not in self.outages:
            self.outages.append(outage)

    def stop_reading(self) -> None:
        """Stop every source at once; what they have read is still finished."""
        self.phase = "stopping"
        self._parking.open()
        self._wake()
        for source in self.sources:
            source.stop_reading()

    @property
    def prefetch(self) -> int:
        """How many unacknowledged messages keep the device in full batches.

        Twice the largest batch, and no fewer than a mix of quick and slow models needs for the quick ones to be in it.
        """
        return min(self.settings.engine.max_in_flight, max(LEAST_PREFETCH, 2 * self.engine.largest_batch()))

    def dead_thread(self) -> str | None:
        """The name of a thread that should be running and is not."""
        if not self.writer.alive():
            return "stream-writer"
        if not self.stage.is_whole():
            return "prep"
        if not all(source.alive() for source in self.sources):
            return "stream-source"
        return next((thread.name for thread in self.watched if not thread.is_alive()), None)

    def resize(self, threads: int) -> None:
        """Change the number of prep threads."""
        self.stage.resize(threads)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every task is settled; False when the timeout came first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._in_flight == 0, timeout)

    def stop(self) -> None:
        """Stop all the threads. Answers that are being written get `CLOSE_S`; every other task is given back."""
        self.stop_reading()
        give_back(self.stage.take_back())
        self.stage.close(CLOSE_S)
        give_back(self.stage.take_back())
        self.engine.close(give_back=True, timeout=CLOSE_S)
        self.writer.close(CLOSE_S)
        for source in self.sources:
            source.close(CLOSE_S)
        self._fetcher.close()
        if self._tracer is not None:
            self._tracer.close()

    def info(self) -> dict[str, Any]:
        """What ``celery inspect stats`` and Flower's pool page show."""
        return self.engine.info() | {"waiting-for-prep": self.stage.waiting(), "prefetch": self.prefetch}

    def _admit(self, job: Job, kind: Kind | None) -> None:
        if job.address.fault is not None:
            raise job.address.fault
        reply_to = job.address.reply_to
        if reply_to is not None and not self.settings.streams.allows(reply_to):
            raise TaskError("reply_to_refused", f"reply_to: {reply_to!r} is in use, or outside streams.reply_to_allow")
        work = job.work
        job.kind = work.content_kind if isinstance(work, TaskObject) else kind or "image"
        if kind not in {None, job.kind}:
            raise TaskError("invalid_task", f"kind: this entrypoint takes {kind} tasks, and the task is {job.kind}")
        job.model = self.registry.resolve(work.model if work is not None else None, job.kind)
        job.check_deadline()

    def _prep_batch(self, model: str) -> int:
        # Texts gain from being tokenised together; an image may have to be downloaded first.
        return TEXTS_AT_ONCE if self.settings.models[model].kind == "text" else 1

    def _has_room(self, model: str) -> bool:
        # What was taken before the results were full waits too, unless the worker is stopping: it is bounded.
        full = self.writer.results_full and self.phase != "stopping"
        return not full and self.writer.has_room() and self.engine.has_room(model)

    def _retry(self, model: str, job: Job, delay_s: float) -> None:
        self.tally.prep_retried(model)
        self.stage.submit_later(model, job, delay_s)

    def _wake(self) -> None:
        self.stage.wake()

    def _wake_all(self) -> None:
        self._wake()
        self._wake_sources()

    def _wake_sources(self) -> None:
        for source in self.sources:
            source.wake()

    def _answer(self, job: Job, result: Result) -> None:
        self.writer.put(result, partial(self._written, job), partial(self._unwritten, job), job.task_object)

    def _written(self, job: Job, written: Written) -> None:
        try:
            self._account(job, written)
        except Exception:
            logger.exception("Task %r is answered; what is to be done then failed", job.address.task_id)
        finally:
            job.settle(written)

    def _unwritten(self, job: Job, reason: str) -> None:
        """Leave a task whose answer nothing takes to its source; not at once, or it would be back at once."""
        self._parking.put(partial(job.settle, GivenBackError(f"the answer is written nowhere: {reason}")))

    def _account(self, job: Job, written: Written) -> None:
        if isinstance(job.work, HandOff) and not isinstance(written.result.outcome, TaskError):
            self._handoffs.remove(job.work.path)
        # A task that does not fit has no model.
        model, result = getattr(job, "model", UNKNOWN), written.result
        self.tally.answered(model, result)
        if job.trace is not None:
            job.trace.end(job.address.task_id, model, result.outcome)
        if isinstance(result.outcome, TaskError):
            _log(result.outcome, result.address.task_id, model)

    def _job(self, origin: Origin, settled: Settled) -> Job:
        with self._changed:
            self._in_flight += 1
        return Job(Address(origin.id), origin, self._answer, partial(self._settle, settled))

    def _read_address(self, job: Job, raw: object) -> None:
        job.address = Address.read(raw, job.origin.id, self.settings.streams.max_metadata_bytes)

    def _settle(self, settled: Settled, outcome: Outcome) -> None:
        try:
            settled(outcome)
        except Exception:
            logger.exception("The source of a task failed when told how it ended")
        finally:
            with self._changed:
                self._in_flight -= 1
                if self._in_flight == 0:
                    self._changed.notify_all()
            if self._in_flight + 1 >= self.settings.engine.max_in_flight:
                self._wake_sources()


def _log(error: TaskError, task_id: str, model: str) -> None:
    level = logging.ERROR if error.code in MODEL_FAULTS else logging.INFO
    extra = {"task_id": task_id, "model": model, "code": error.code}
    logger.log(level, "Task %s on %s ended in %s", task_id, model or "no model", error, extra=extra)


def _answer_crash(jobs: list[Job], error: BaseException) -> None:
    """A fault of the prep stage itself is an answer too; no task hangs."""
    for job in jobs:
        job.crashed("preparing the item", error)
