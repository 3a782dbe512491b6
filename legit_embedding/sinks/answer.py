"""An answer that is waiting to be written to its stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from legit_embedding.errors import TaskError
from legit_embedding.redis_io.server_id import UNKNOWN
from legit_embedding.wire.result import Embedded
from legit_embedding.wire.task import Address

if TYPE_CHECKING:
    from legit_embedding.errors import ErrorCode
    from legit_embedding.sinks.routing import Router
    from legit_embedding.wire.result import Result, Written

_OVERHEAD_BYTES = 1024  # names, ids and numbers of one entry, and the objects around them
_OF_THE_STREAM = ("WRONGTYPE", "NOPERM")
"""Prefixes of refusals that concern the stream, not the content of the answer."""
_OF_THE_SIZE = ("bulk length", "maximum allowed size", "too large")
_LONGEST_REASON = 300


class Recipient(Protocol):
    """The job behind an answer, told exactly once of the outcome, from the writer's thread; must be quick."""

    def written(self, written: Written) -> None:
        """Note that the answer is confirmed."""

    def unwritten(self, reason: str) -> None:
        """Note that the answer could not be written, not even to the dead letter."""

    def task_object(self) -> dict[str, Any]:
        """The task, for the dead letter."""


@dataclass(slots=True, eq=False)
class Answer:
    """A result that is not confirmed yet, with the recipient of the outcome."""

    result: Result
    job: Recipient
    """Told the outcome."""
    size: int
    """Approximate memory it holds while it waits, in bytes."""
    stream: str = ""
    server: str = UNKNOWN
    """The id of the server that has confirmed it."""
    over: bool = False
    """True once the recipient has been told."""
    _redirected: bool = False
    _reduced: bool = False

    @classmethod
    def of(cls, job: Recipient, result: Result) -> Answer:
        """Wrap a result, estimating its size."""
        size = _OVERHEAD_BYTES
        if isinstance(result.outcome, Embedded):
            size += len(result.outcome.embedding)
        if result.address.metadata:
            size += len(result.address.metadata)
        return cls(result, job, size)

    def route(self, router: Router) -> bool:
        """Choose the stream; False if the requested address was refused."""
        self.stream, refusal = router.route(self.result.address)
        if refusal is not None:
            self.result = replace(self.result, outcome=refusal)
        return refusal is None

    def has_another_chance(self, default: str, reason: str) -> bool:
        """Adapt the answer to a refusal: use another stream, or a smaller answer; False if neither is left."""
        if reason.startswith(_OF_THE_STREAM):
            return self._redirect(default, reason)
        return self._reduce(reason)

    def fields(self, worker: str) -> dict[str, str]:
        """The result entry."""
        return self.result.fields(worker)

    def _redirect(self, default: str, reason: str) -> bool:
        """Answer on the default stream that the chosen stream does not accept the answer."""
        if self._redirected or self.stream == default:
            return False
        self._redirected = True
        detail = f"the result stream {self.stream!r} does not take an entry: {reason}"
        self.result = replace(self.result, outcome=TaskError("reply_to_refused", detail))
        self.stream = default
        return True

    def _reduce(self, reason: str) -> bool:
        """Replace the answer by the reason, without the echoed fields."""
        if self._reduced:
            return False
        self._reduced = True
        code: ErrorCode = "too_large" if any(sign in reason for sign in _OF_THE_SIZE) else "model_failed"
        outcome = TaskError(code, f"the answer cannot be written: {reason[:_LONGEST_REASON]}")
        address = Address(str(self.result.address.task_id))
        self.result = replace(self.result, address=address, outcome=outcome)
        return True
