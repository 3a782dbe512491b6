"""Backpressure: what sources are told, and when they are woken."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from legit_embedding.pipeline.backpressure import Backpressure

if TYPE_CHECKING:
    from legit_embedding.pipeline.protocols import Source


class Stage:
    """The sink, the room and a source at once."""

    results_full = ""

    def __init__(self) -> None:
        self.room = 5
        self.writable = True
        self.woken = 0

    def has_room(self) -> bool:
        return self.writable

    def wake(self) -> None:
        self.woken += 1


def make() -> tuple[Stage, Backpressure]:
    stage = Stage()
    backpressure = Backpressure(lambda far: stage.room + far, stage, lambda _model: True)
    backpressure.sources.append(cast("Source", stage))
    return stage, backpressure


def test_sources_are_told_the_room() -> None:
    stage, backpressure = make()
    assert backpressure.for_sources() == 5
    assert backpressure.for_sources(far=7) == 12
    stage.room = -3
    assert backpressure.for_sources() <= 0
    stage.room, stage.writable = 5, False
    assert backpressure.for_sources() == 0


def test_a_source_is_woken_once_when_it_was_told_to_wait() -> None:
    stage, backpressure = make()
    backpressure.for_sources()
    backpressure.closed()
    assert stage.woken == 0, "it had room"
    stage.room = 0
    backpressure.for_sources()
    backpressure.closed()
    backpressure.closed()
    assert stage.woken == 1


def test_a_task_closed_while_the_room_is_looked_at_wakes_the_source() -> None:
    stage, _ = make()

    def room(_far: int) -> int:
        backpressure.closed()
        return 0

    backpressure = Backpressure(room, stage, lambda _model: True)
    backpressure.sources.append(cast("Source", stage))
    assert backpressure.for_sources() == 0
    assert stage.woken == 1
