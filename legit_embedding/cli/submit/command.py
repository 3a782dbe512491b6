"""``legit-embedding submit``: send tasks from files to the task stream."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from redis.exceptions import RedisError

from legit_embedding.cli.shared.connection import connected
from legit_embedding.cli.shared.failures import one_line
from legit_embedding.cli.shared.lazy import INTERRUPTED
from legit_embedding.cli.shared.terminal import count, counted, print_json, rate, say
from legit_embedding.cli.submit.feeder import Feeder, Progress
from legit_embedding.cli.submit.progress import shown
from legit_embedding.cli.submit.sources import Options, open_source
from legit_embedding.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from legit_embedding.cli.submit.folder import By


class StoppedError(click.ClickException):
    """The submission ended early; the message says how far it got."""

    def __init__(self, why: str, progress: Progress) -> None:
        done = f"{counted(progress.sent, 'task', 'tasks')} sent"
        if progress.uncertain:
            done += f", and whether the next {count(progress.uncertain)} arrived is not known"
        super().__init__(f"{why.rstrip('.')}; {done}; go on with --skip {progress.position}")


class CancelledError(StoppedError):
    """The user interrupted the submission."""

    exit_code = INTERRUPTED


@click.command("submit")
@click.argument("source", type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option(
    "--by",
    type=click.Choice(["path", "content"]),
    help="For a folder: whether a task names its image's path, which the worker must see too, or carries the image. "
    "[default: path]",
)
@click.option("--model", help="For tasks that name none.")
@click.option("--app", help="For tasks that name none.")
@click.option("--reply-to", help="The result stream, for tasks that name none.")
@click.option(
    "--max-length",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Wait while the stream holds this many entries.",
)
@click.option("--skip", type=click.IntRange(0), default=0, help="Leave out the first lines, or images: to go on.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
def submit(  # noqa: PLR0913 - one argument an option
    source: Path,
    *,
    by: By | None,
    model: str | None,
    app: str | None,
    reply_to: str | None,
    max_length: int,
    skip: int,
    as_json: bool,
) -> None:
    """Send tasks to the task stream.

    SOURCE is a JSONL file with one task object per line, - for standard input, or a folder of images (searched
    recursively, in alphabetical order; each image's task id is its path below the folder). A file is checked to its
    end before its first task is sent; standard input is checked line by line. A task without a task_id is identified
    by its entry's id.

    If it ends early, it reports how far it got and which --skip continues from there.

    --json prints {"stream", "sent", "left_out", "seconds", "per_s", "waited_s"}.
    """
    settings = load_settings()
    if reply_to is not None and not settings.streams.allows(reply_to):
        message = f"--reply-to: {reply_to!r} is outside streams.reply_to_allow"
        raise click.UsageError(message)
    left_out = _LeftOut()
    fields = {"model": model, "app": app, "reply_to": reply_to}
    options = Options({name: given for name, given in fields.items() if given is not None}, by, skip)
    with connected(settings) as client, open_source(source, options, settings, left_out) as tasks:
        progress = Progress(position=skip)
        with shown(tasks.total, progress) as on_change, _telling_where_it_stopped(progress):
            Feeder(client, settings.streams.tasks, max_length, progress, on_change).feed(tasks.items)
    _sum_up(settings.streams.tasks, progress, left_out.count, as_json=as_json)


@dataclass(slots=True)
class _LeftOut:
    """Reports and counts skipped files."""

    count: int = 0

    def __call__(self, why: str) -> None:
        self.count += 1
        say(f"left out: {why}")


@contextmanager
def _telling_where_it_stopped(progress: Progress) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise CancelledError("interrupted", progress) from None
    except click.ClickException as error:
        raise StoppedError(error.format_message(), progress) from error
    except (RedisError, OSError) as error:
        why = f"Redis: {one_line(error)}" if isinstance(error, RedisError) else one_line(error)
        raise StoppedError(why, progress) from error


def _sum_up(stream: str, progress: Progress, left_out: int, *, as_json: bool) -> None:
    if as_json:
        seconds, waited = round(progress.seconds, 3), round(progress.waited_s, 3)
        summary = {"stream": stream, "sent": progress.sent, "left_out": left_out, "seconds": seconds}
        print_json(summary | {"per_s": round(progress.per_s, 3), "waited_s": waited})
        return
    words = (
        f"{counted(progress.sent, 'task', 'tasks')} into {stream} in {progress.seconds:.1f} s, {rate(progress.per_s)}"
    )
    if progress.waited_s:
        words += f"; {progress.waited_s:.1f} s of it waiting for the stream to become shorter"
    if left_out:
        words += f"; {counted(left_out, 'file', 'files')} left out"
    click.echo(words)
