"""An answer on its way to its stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from legit_embedding.errors import TaskError
from legit_embedding.wire.result import Embedded
from legit_embedding.wire.task import Address

if TYPE_CHECKING:
    from legit_embedding.errors import ErrorCode
    from legit_embedding.sinks.routing import Router
    from legit_embedding.wire.result import Result, Written

_OVERHEAD_BYTES = 1024  # names, ids and numbers of one entry, and the objects around them
_OF_THE_STREAM = ("WRONGTYPE", "NOPERM")
"""Refusals that speak of the stream, and not of what is to be written."""
_OF_THE_SIZE = ("bulk length", "maximum allowed size", "too large")
_LONGEST_REASON = 300


class Recipient(Protocol):
    """Whose answer it is: told once what became of it, from the writer's thread; must be quick."""

    def written(self, written: Written) -> None:
        """The answer is confirmed."""

    def unwritten(self, reason: str) -> None:
        """The answer is written nowhere, not even to the dead letter."""

    def task_object(self) -> dict[str, Any]:
        """The task, for the dead letter."""


@dataclass(slots=True, eq=False)
class Answer:
    """A result that is not confirmed yet, and whom to tell what becomes of it."""

    result: Result
    job: Recipient
    """Told what becomes of it."""
    size: int
    """About how many bytes it holds while it waits."""
    stream: str = ""
    over: bool = False
    """Whether someone was told already."""
    _redirected: bool = False
    _reduced: bool = False

    @classmethod
    def of(cls, job: Recipient, result: Result) -> Answer:
        """Take a result, and weigh it."""
        size = _OVERHEAD_BYTES
        if isinstance(result.outcome, Embedded):
            size += len(result.outcome.embedding)
        if result.address.metadata:
            size += len(result.address.metadata)
        return cls(result, job, size)

    def route(self, router: Router) -> bool:
        """Choose the stream; False when what the address asked for was refused."""
        self.stream, refusal = router.route(self.result.address)
        if refusal is not None:
            self.result = replace(self.result, outcome=refusal)
        return refusal is None

    def has_another_chance(self, default: str, reason: str) -> bool:
        """Make the best of a refusal: another stream, or an answer that is smaller; False when nothing is left."""
        if reason.startswith(_OF_THE_STREAM):
            return self._redirect(default, reason)
        return self._reduce(reason)

    def fields(self, worker: str) -> dict[str, str]:
        """The result entry."""
        return self.result.fields(worker)

    def _redirect(self, default: str, reason: str) -> bool:
        """Answer on the default stream that the chosen one does not take the answer."""
        if self._redirected or self.stream == default:
            return False
        self._redirected = True
        detail = f"the result stream {self.stream!r} does not take an entry: {reason}"
        self.result = replace(self.result, outcome=TaskError("reply_to_refused", detail))
        self.stream = default
        return True

    def _reduce(self, reason: str) -> bool:
        """Answer with the reason, and echo nothing."""
        if self._reduced:
            return False
        self._reduced = True
        code: ErrorCode = "too_large" if any(sign in reason for sign in _OF_THE_SIZE) else "model_failed"
        outcome = TaskError(code, f"the answer cannot be written: {reason[:_LONGEST_REASON]}")
        address = Address(str(self.result.address.task_id))
        self.result = replace(self.result, address=address, outcome=outcome)
        return True
