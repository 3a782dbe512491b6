"""An answer on its way to its stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError
from legit_embedding.messages import Embedded, Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.messages import Result
    from legit_embedding.sinks.routing import Router

_OVERHEAD_BYTES = 1024  # names, ids and numbers of one entry, and the objects around them


@dataclass(slots=True, eq=False)
class Answer:
    """A result that is not confirmed yet, and whom to tell when it is."""

    result: Result
    settled: Callable[[Written], None]
    size: int
    """About how many bytes it holds while it waits."""
    stream: str = ""

    @classmethod
    def of(cls, result: Result, settled: Callable[[Written], None]) -> Answer:
        """Take a result, and weigh it."""
        size = _OVERHEAD_BYTES
        if isinstance(result.outcome, Embedded):
            size += len(result.outcome.embedding)
        if result.address.metadata:
            size += len(repr(result.address.metadata))
        return cls(result, settled, size)

    def route(self, router: Router) -> bool:
        """Choose the stream; False when what the address asked for was refused."""
        self.stream, refusal = router.route(self.result.address)
        if refusal is not None:
            self.result = replace(self.result, outcome=refusal)
        return refusal is None

    def redirect(self, stream: str, reason: str) -> None:
        """Answer on this stream that the chosen one does not take the answer."""
        detail = f"the result stream {self.stream!r} does not take an entry: {reason}"
        self.result = replace(self.result, outcome=TaskError("reply_to_refused", detail))
        self.stream = stream

    def fields(self, worker: str) -> dict[str, str]:
        """The result entry; one that cannot be written as it is becomes an error that can."""
        try:
            return self.result.fields(worker)
        except (TypeError, ValueError, RecursionError) as error:
            address = replace(self.result.address, metadata=None)
            outcome = TaskError("invalid_task", f"metadata: it cannot be written back as JSON: {error}")
            self.result = replace(self.result, address=address, outcome=outcome)
            return self.result.fields(worker)
