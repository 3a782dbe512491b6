"""Tasks from a JSONL file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import click

from legit_embedding.cli.submit.feeder import Item
from legit_embedding.errors import TaskError
from legit_embedding.wire.task import TaskObject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_STAND_IN = {"task_id": "-"}
"""For validation only: in a stream the entry's id replaces a missing task id."""


class BadLineError(click.ClickException):
    """A line is not a valid task object."""

    def __init__(self, name: str, number: int, why: str) -> None:
        super().__init__(f"{name}, line {number}: {why}")


def tasks(lines: Iterable[bytes], name: str, defaults: Mapping[str, str], skip: int = 0) -> Iterator[Item]:
    """Yield the tasks of a JSONL file, ignoring blank lines.

    Args:
        lines: the file's lines.
        name: the file's name in error messages.
        defaults: values for fields that a task does not set.
        skip: number of lines to skip at the start.

    Raises:
        BadLineError: a line is not a task that a worker would accept.
    """
    for number, line in enumerate(lines, start=1):
        if number > skip and line.strip():
            try:
                yield Item(number, _payload(line, defaults))
            except (TaskError, TypeError, ValueError, RecursionError) as error:
                why = error.detail if isinstance(error, TaskError) else str(error)
                raise BadLineError(name, number, why) from None


def _payload(line: bytes, defaults: Mapping[str, str]) -> bytes:
    """Validate one line and encode it as an entry's payload."""
    task = _parse(line)
    task |= {name: value for name, value in defaults.items() if task.get(name) is None}
    TaskObject.parse(_STAND_IN | task)
    return encode(task)


def encode(task: Mapping[str, Any]) -> bytes:
    """Encode a task object as an entry's payload."""
    return json.dumps(task, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _parse(line: bytes) -> dict[str, Any]:
    try:
        task = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg} at column {error.colno}"
        raise ValueError(message) from None
    if not isinstance(task, dict):
        message = f"a task is a JSON object, not {type(task).__name__}"
        raise TypeError(message)
    return task


def _refuse_constant(name: str) -> NoReturn:
    message = f"not JSON: {name} is no number"
    raise ValueError(message)
