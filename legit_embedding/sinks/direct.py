"""The sink of answers for which a client of this process waits: no server lies between."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from legit_embedding.redis_io.health import Health
from legit_embedding.sinks.stats import Counters
from legit_embedding.wire.result import Written

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from legit_embedding.sinks.answer import Recipient
    from legit_embedding.sinks.stats import WriterStats
    from legit_embedding.wire.result import Result


class DirectSink:
    """Confirms every answer at once. Without Redis it stands in for the stream writer."""

    results_full = ""
    unconfirmed = 0

    def start(self) -> None:
        """Do nothing: there is no thread."""

    def put(self, job: Recipient, result: Result) -> None:
        """Tell the job that its answer is confirmed."""
        job.written(Written(result, "", ""))

    def together(self) -> AbstractContextManager[None]:
        """Return a context that changes nothing."""
        return nullcontext()

    def leave_server(self) -> None:
        """Do nothing: there is no server."""

    def has_room(self) -> bool:
        """Return True: nothing waits here."""
        return True

    def close(self, timeout: float = 0.0) -> list[Result]:  # noqa: ARG002 - the stream writer's signature
        """Return the unconfirmed results: none."""
        return []

    def alive(self) -> bool:
        """Return True: there is no thread that could die."""
        return True

    def health(self) -> Health:
        """Return that all is well."""
        return Health(ok=True)

    def stats(self) -> WriterStats:
        """Return counters of nothing written."""
        return Counters().snapshot(0, 0)
