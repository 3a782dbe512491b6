"""Callers and recipients made of functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from legit_embedding.pipeline.caller import OnOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.sinks.writer import StreamWriter
    from legit_embedding.wire.messages import Result, Written

__all__ = ["OnOutcome", "Told", "put"]


def nothing(*_: Any) -> None:
    """Nobody has to know."""


@dataclass
class Told:
    """A recipient of answers."""

    written: Callable[[Written], None] = nothing
    unwritten: Callable[[str], None] = nothing
    task: Callable[[], dict[str, Any]] = dict

    def task_object(self) -> dict[str, Any]:
        """What the dead letter gets."""
        return self.task()


def put(writer: StreamWriter, result: Result, *told: Any, **named: Any) -> None:
    """Have an answer written for a recipient made of functions."""
    writer.put(Told(*told, **named), result)
