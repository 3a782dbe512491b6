"""The admission of a task: what it asks for, and the model that serves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError
from legit_embedding.wire.task import Address, TaskObject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from legit_embedding.config import Kind, StreamConfig
    from legit_embedding.models.registry import Registry
    from legit_embedding.pipeline.caller import Tracer
    from legit_embedding.pipeline.job import Job
    from legit_embedding.wire.task import HandOff, TokenIds


@dataclass(frozen=True, slots=True)
class Terms:
    """A source's conditions for a task, besides the task's own fields."""

    accepts: type[TaskObject] | type[HandOff] | type[TokenIds] = TaskObject
    """The wire object that it must be."""
    kind: Kind | None = None
    """The kind that the entrypoint takes; None for either."""
    expires: float | None = None
    """Unix time after which the source no longer wants the answer, besides the task's own deadline."""
    headers: Mapping[str, str] | None = None
    """The message headers with the producer's trace context; if None, the task's own fields may hold it."""


ANY = Terms()
"""No conditions."""


class Admission:
    """Reads what a producer sent into a job.

    Args:
        streams: where answers may go.
        registry: the models.
        tracer: creates a trace per task; None for no traces.
    """

    def __init__(self, streams: StreamConfig, registry: Registry, tracer: Tracer | None) -> None:
        self._streams = streams
        self._registry = registry
        self._tracer = tracer

    def read_address(self, job: Job, raw: object) -> None:
        """Read the part that an answer needs, even one that refuses the task."""
        job.address = Address.read(raw, job.origin.id, self._streams.max_metadata_bytes)

    def admit(self, job: Job, raw: object, terms: Terms) -> None:
        """Read the task and choose its model.

        Raises:
            TaskError: the task is refused; as much of it as was understood is in the job.
        """
        try:
            if self._tracer is not None:
                job.trace = self._tracer.begin(raw, terms.headers)
            work = terms.accepts.parse(raw)
        except Exception:
            self.read_address(job, raw)
            raise
        job.address = work.address(self._streams.max_metadata_bytes)
        job.take(work, terms.expires)
        if job.address.fault is not None:
            raise job.address.fault
        reply_to = work.reply_to
        if reply_to is not None and not self._streams.allows(reply_to):
            raise TaskError("reply_to_refused", f"reply_to: {reply_to!r} is in use, or outside streams.reply_to_allow")
        kind = terms.kind
        job.kind = work.content_kind if isinstance(work, TaskObject) else kind or "image"
        if kind not in {None, job.kind}:
            raise TaskError("invalid_task", f"kind: this entrypoint takes {kind} tasks, and the task is {job.kind}")
        job.serve(self._registry.resolve(work.model, job.kind))
        job.check_deadline()
