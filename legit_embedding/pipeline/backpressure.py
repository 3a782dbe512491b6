"""Whether there is room for more: the one place that says so, to sources and to prep, and tells them of a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.pipeline.protocols import Source


class Writer(Protocol):
    """What is asked of the sink."""

    @property
    def results_full(self) -> str:
        """Which result stream is full, in a sentence; empty where none is."""

    def has_room(self) -> bool:
        """Whether more answers may wait to be written."""


class Backpressure:
    """Asks everything behind a stage whether it takes more, and wakes the stage when that has changed.

    Each queue on the way (the accumulators, the sink's backlog, the tasks in flight) has its own bound and calls
    `changed` or `prep_changed` when it has room again after it had none. Nobody polls, and nobody else is asked.

    Args:
        most: how many tasks may be in flight.
        in_flight: how many are.
        writer: the sink.
        processor_has_room: whether the processor takes more of a model.
    """

    def __init__(
        self,
        most: int,
        in_flight: Callable[[], int],
        writer: Writer,
        processor_has_room: Callable[[str], bool],
    ) -> None:
        self._most = most
        self._in_flight = in_flight
        self._writer = writer
        self._processor_has_room = processor_has_room
        self._wake_prep: Callable[[], None] = _nobody
        self.sources: list[Source] = []
        """Woken when there is room again."""
        self.is_stopping = False
        """A worker that stops finishes what it has taken, even where results are full: that is bounded."""

    def prep_is(self, wake: Callable[[], None]) -> None:
        """Have prep woken by this."""
        self._wake_prep = wake

    def for_sources(self) -> int:
        """How many more tasks the sources together may bring; 0 or less for none."""
        if self._writer.results_full or not self._writer.has_room():
            return 0
        return self._most - self._in_flight()

    def for_prep(self, model: str) -> bool:
        """Whether more items of a model may be prepared."""
        if self._writer.results_full and not self.is_stopping:
            return False
        return self._writer.has_room() and self._processor_has_room(model)

    def prep_changed(self) -> None:
        """A processor has room again."""
        self._wake_prep()

    def sources_changed(self) -> None:
        """Fewer tasks are in flight."""
        for source in self.sources:
            source.wake()

    def changed(self) -> None:
        """The sink has room again."""
        self.prep_changed()
        self.sources_changed()


def _nobody() -> None:
    """Nothing to wake yet."""
