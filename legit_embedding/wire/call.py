"""The task objects in a Celery call of an entrypoint, in any of the accepted forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError
from legit_embedding.wire.result import Origin
from legit_embedding.wire.task import HandOff, TaskObject

if TYPE_CHECKING:
    from collections.abc import Iterable

PARAMETERS = ("task", "tasks", "handoff")
"""The keyword arguments that hold a whole object, or a list of objects."""
FIELDS = frozenset(TaskObject.model_fields) | frozenset(HandOff.model_fields)


@dataclass(frozen=True, slots=True)
class Call:
    """The task objects of one call; if it has an error, as far as they are legible, so that each can be answered."""

    raws: tuple[object, ...]
    in_batch: bool
    error: TaskError | None = None

    def origins(self, celery_id: str) -> list[Origin]:
        """The origin of each object; one in a batch is identified by its position."""
        ids = [f"{celery_id}:{index}" for index in range(len(self.raws))] if self.in_batch else [celery_id]
        return [Origin("celery", each) for each in ids]


def read_one(args: object, kwargs: object) -> Call:
    """Read a call of an entrypoint for one object, given as its one argument, as ``task=``, or as keyword fields.

    Keyword arguments that are not fields are ignored, as unknown fields of an object are.
    """
    objects, keywords = _taken_apart(args, kwargs)
    if not objects and keywords:
        return Call((keywords,), in_batch=False)
    problem = _problem(objects, keywords)
    if problem is None:
        return Call((objects[0],), in_batch=False)
    return Call((_most_legible([*objects, keywords]),), in_batch=False, error=problem)


def read_batch(args: object, kwargs: object) -> Call:
    """Read a call of an entrypoint for a list of objects, given as its one argument or as ``tasks=``."""
    objects, keywords = _taken_apart(args, kwargs)
    problem = _problem(objects, keywords)
    if problem is None and not isinstance(objects[0], list):
        kind = type(objects[0]).__name__
        problem = TaskError("invalid_task", f"tasks: expected a list of task objects, got one of type {kind}")
    lists = [each for each in objects if isinstance(each, list)]
    if lists:
        return Call(tuple(raw for each in lists for raw in each), in_batch=True, error=problem)
    return Call((_most_legible([*objects, keywords]),), in_batch=False, error=problem)


def _taken_apart(args: object, kwargs: object) -> tuple[list[object], dict[str, object]]:
    """Split a call into its whole objects and its other keyword arguments."""
    objects = list(args) if isinstance(args, list | tuple) else [args] if args else []
    keywords = dict(kwargs) if isinstance(kwargs, Mapping) else {}
    objects += [keywords.pop(name) for name in PARAMETERS if name in keywords]
    return objects, keywords


def _problem(objects: list[object], keywords: dict[str, object]) -> TaskError | None:
    fields = sorted(FIELDS & keywords.keys())
    if not objects:
        detail = "the call carries none: pass it as the one argument or as task=..., or its fields as keywords"
    elif len(objects) > 1:
        detail = f"the call carries {len(objects)} arguments, where one is expected"
    elif fields:
        detail = f"the call carries one, and keywords beside it ({', '.join(fields)}): pass one or the other"
    else:
        return None
    return TaskError("invalid_task", f"task: {detail}")


def _most_legible(candidates: Iterable[object]) -> object:
    """The first object with a legible task id, so that the answer carries it."""
    named = (each for each in candidates if isinstance(each, dict) and each.get("task_id"))
    return next(named, None)
