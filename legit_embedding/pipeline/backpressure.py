"""Backpressure: decides whether sources and prep may bring more, and wakes them when that changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.pipeline.protocols import Source


class Writer(Protocol):
    """The parts of the sink that backpressure depends on."""

    @property
    def results_full(self) -> str:
        """A sentence naming the result stream that is full; empty if none is."""

    def has_room(self) -> bool:
        """True if more answers may be queued for writing."""


class Backpressure:
    """Tells each stage whether the stages after it accept more, and wakes it when that has changed.

    Each queue on the way (the accumulators, the sink's backlog, the tasks in flight) has its own bound and calls
    `changed` or `prep_changed` when it has room again after being full, so no stage polls.

    Args:
        room: returns the number of further tasks that may be in flight, given the number that the way here holds.
        writer: the sink.
        processor_has_room: returns whether the processor accepts more items of a model.
    """

    def __init__(
        self,
        room: Callable[[int], int],
        writer: Writer,
        processor_has_room: Callable[[str], bool],
    ) -> None:
        self._room = room
        self._writer = writer
        self._processor_has_room = processor_has_room
        self._wake_prep: Callable[[], None] = _nobody
        self.sources: list[Source] = []
        """The sources to wake when there is room again."""
        self._refused = False
        """True if a source was told that there is no room, and not woken since."""
        self.is_stopping = False
        """True while the worker stops: tasks it has taken, a bounded number, are finished even if results are full."""

    def prep_is(self, wake: Callable[[], None]) -> None:
        """Set the callable that wakes prep."""
        self._wake_prep = wake

    def for_sources(self, far: int = 0) -> int:
        """The number of further tasks that all sources together may bring; 0 or less means none.

        Args:
            far: the number of tasks that the way from a distant server holds.
        """
        if self._writer.results_full or not self._writer.has_room():
            return 0
        # Before the look at the room: what is closed after that look wakes the source.
        self._refused = True
        room = self._room(far)
        if room > 0:
            self._refused = False
        return room

    def for_prep(self, model: str) -> bool:
        """True if more items of a model may be prepared."""
        if self._writer.results_full and not self.is_stopping:
            return False
        return self._writer.has_room() and self._processor_has_room(model)

    def prep_changed(self) -> None:
        """Wake prep, because a processor has room again."""
        self._wake_prep()

    def closed(self) -> None:
        """Wake the sources that were told to wait, because fewer tasks are in flight."""
        if self._refused:
            self._refused = False
            self._wake_sources()

    def changed(self) -> None:
        """Wake prep and the sources, because the sink has room again."""
        self.prep_changed()
        self._wake_sources()

    def _wake_sources(self) -> None:
        for source in self.sources:
            source.wake()


def _nobody() -> None:
    """Placeholder until prep has set its own callable."""
