"""The objects that a consumer reads back: answers, and their origins.

They are not frozen, although nothing changes them: one is made for every task, and freezing makes an `Embedded` take
2.4 us instead of 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from legit_embedding.errors import TaskError

if TYPE_CHECKING:
    from legit_embedding.models.config import Kind
    from legit_embedding.wire.task import Address


VECTOR_FIELDS = ("kind", "model", "dim", "encoding", "embedding", "scale")
"""The fields of a result that hold its vector, in their order: after ``task_id`` and ``status``, before all others."""


@dataclass(slots=True)
class Origin:
    """The message or entry that brought a task here, to be acknowledged when the task is answered."""

    kind: Literal["celery", "stream", "http", "local"]
    id: str
    """The Celery id, the stream entry id or the request's id; the result's ``source``."""


@dataclass(slots=True)
class Timings:
    """Where a task's time went, in milliseconds."""

    prep_ms: int = 0
    queue_ms: int = 0
    compute_ms: int = 0


@dataclass(slots=True)
class Embedded:
    """The good half of an answer."""

    kind: Kind
    model: str
    dim: int
    encoding: str
    embedding: str
    truncated: bool = False
    repaired: bool = False
    revision: str = ""
    """Of the model, when one is pinned or known."""
    scale: str = ""
    """Of an int8 vector, as decimal text; empty where the encoding has none."""
    cached: bool = False
    """True if the vector came from the content cache."""
    cache_key: str = ""
    """The key under which Redis is to keep the vector; empty for none."""
    cache_s: int = 0
    """For how long, in seconds."""
    windows: int = 0
    """The number of windows of a long text that were averaged; 0 if none were."""

    def fields(self) -> dict[str, str]:
        """The fields of the result entry that are the answer's own; every value is a string."""
        fields = {
            "kind": self.kind,
            "model": self.model,
            "dim": str(self.dim),
            "encoding": self.encoding,
            "embedding": self.embedding,
        }
        if self.scale:
            fields["scale"] = self.scale
        if self.revision:
            fields["revision"] = self.revision
        if self.windows:
            fields["windows"] = str(self.windows)
        if self.truncated:
            fields["truncated"] = "1"
        if self.repaired:
            fields["repaired"] = "1"
        if self.cached:
            fields["cached"] = "1"
        return fields


@dataclass(slots=True)
class Result:
    """One answer, ready to be written to a result stream."""

    address: Address
    origin: Origin
    outcome: Embedded | TaskError
    timings: Timings = field(default_factory=Timings)

    def fields(self, worker: str) -> dict[str, str]:
        """The result entry (CONTRACT section 3); all values are strings. `EntryPacker` knows which differ by answer."""
        entry = {"task_id": self.address.task_id, "status": "ok"}
        if isinstance(self.outcome, TaskError):
            entry |= {"status": "error", "error": self.outcome.code, "detail": self.outcome.detail}
        else:
            entry |= self.outcome.fields()
        if self.address.app is not None:
            entry["app"] = self.address.app
        if self.address.metadata is not None:
            entry["metadata"] = self.address.metadata
        entry["source"] = self.origin.id
        entry["worker"] = worker
        entry["prep_ms"] = str(self.timings.prep_ms)
        entry["queue_ms"] = str(self.timings.queue_ms)
        entry["compute_ms"] = str(self.timings.compute_ms)
        return entry


@dataclass(slots=True)
class Written:
    """A confirmed result: Redis has it, or it went directly to the caller that waits for it, with an empty stream."""

    result: Result
    stream: str
    entry_id: str
    """The entry's id; empty when an earlier delivery of the same task had written it and the id is not known."""
    server: str = ""
    """The id of the Redis server that has confirmed it; empty if unknown."""

    def receipt(self, *, with_embedding: bool = False) -> dict[str, Any]:
        """The return value of the Celery task (CONTRACT section 1)."""
        outcome = self.result.outcome
        receipt: dict[str, Any] = {"task_id": self.result.address.task_id}
        if isinstance(outcome, TaskError):
            receipt |= {"status": "error", "error": outcome.code, "detail": outcome.detail}
        else:
            receipt |= {"status": "ok", "model": outcome.model, "dim": outcome.dim}
            if with_embedding:
                receipt |= {"encoding": outcome.encoding, "embedding": outcome.embedding}
                receipt |= {"scale": outcome.scale} if outcome.scale else {}
        return receipt | {"stream": self.stream, "entry_id": self.entry_id}
