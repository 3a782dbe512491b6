"""Sources of the tasks that ``submit`` sends."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from legit_embedding.cli.shared.terminal import say
from legit_embedding.cli.submit.folder import Folder, warn_of_roots
from legit_embedding.cli.submit.jsonl import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from legit_embedding.cli.submit.feeder import Item
    from legit_embedding.cli.submit.folder import By
    from legit_embedding.config import Settings

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Options:
    """Command-line options for the tasks."""

    fields: Mapping[str, str]
    """Values for fields that a task does not set."""
    by: By | None
    skip: int


@dataclass(frozen=True, slots=True)
class Source:
    """Validated tasks to send."""

    items: Iterator[Item]
    total: int | None
    """Number of tasks, or None if unknown."""


@contextmanager
def open_source(path: Path, options: Options, settings: Settings, leave_out: Callable[[str], None]) -> Iterator[Source]:
    """Open a folder, a file (which is checked to its end first), or standard input.

    Raises:
        BadLineError: a line of the file is not a valid task.
    """
    if path.is_dir():
        yield _folder(path, options, settings, leave_out)
        return
    if options.by is not None:
        message = "--by is for a folder of images"
        raise click.UsageError(message)
    if str(path) == STDIN:
        yield Source(tasks(sys.stdin.buffer, "standard input", options.fields, options.skip), None)
        return
    total = _check(path, options)
    with path.open("rb") as file:
        yield Source(tasks(file, str(path), options.fields, options.skip), total)


def _check(path: Path, options: Options) -> int:
    """Validate the whole file, so that a bad line is found before any task is sent; return the number of tasks."""
    with path.open("rb") as file:
        return sum(1 for _ in tasks(file, str(path), options.fields, options.skip))


def _folder(path: Path, options: Options, settings: Settings, leave_out: Callable[[str], None]) -> Source:
    folder = Folder(path, options.by or "path", options.fields, settings.fetch.max_bytes, leave_out)
    if folder.by == "path":
        warn_of_roots(path, settings.image_roots, say)
    total = sum(1 for _ in folder.paths())
    return Source(folder.tasks(options.skip), max(0, total - options.skip))
