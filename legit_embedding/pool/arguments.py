"""The task object in a Celery call: its one argument, ``task=…``, or the keywords themselves."""

from __future__ import annotations

from typing import Any

from legit_embedding.errors import TaskError

NAMES = ("task", "tasks", "handoff")
"""Keywords that hold the whole object."""


def sent_object(args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - what JSON gives
    """The object that a call is about.

    Raises:
        TaskError: ``invalid_task``: there is none, or more than one.
    """
    args = list(args) if isinstance(args, (list, tuple)) else []
    kwargs = kwargs if isinstance(kwargs, dict) else {}
    if len(args) == 1 and not kwargs:
        return args[0]
    named = [name for name in NAMES if name in kwargs]
    if not args and named:
        surplus = sorted(set(kwargs) - {named[0]})
        if surplus:
            raise TaskError("invalid_task", f"{surplus[0]}: there is no such keyword beside {named[0]}")
        return kwargs[named[0]]
    if not args and kwargs:
        return kwargs
    got = f"{len(args)} arguments and {len(kwargs)} keywords" if args or kwargs else "nothing"
    expected = "expected one object, as the only argument, as task= or as keywords"
    raise TaskError("invalid_task", f"task: {expected}; got {got}")


def sent_objects(args: Any, kwargs: Any) -> list[Any]:  # noqa: ANN401
    """What a call may have been about, one object each, however little it fits: for an answer that refuses it."""
    try:
        found = sent_object(args, kwargs)
    except TaskError:
        given = [*(args if isinstance(args, (list, tuple)) else ())]
        given += kwargs.values() if isinstance(kwargs, dict) else ()
        found = next((each for each in given if isinstance(each, dict)), kwargs)
    return found if isinstance(found, list) else [found]
