"""Progress display of ``submit``: a bar on a terminal, a log line otherwise."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from legit_embedding.cli.shared.terminal import console, counted, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from legit_embedding.cli.submit.feeder import Progress

    OnChange = Callable[[int | None], None]


@contextmanager
def shown(total: int | None, progress: Progress) -> Iterator[OnChange]:
    """Show the progress on standard error.

    Yields:
        A callback to call with None after each batch, and with the stream's length while waiting.
    """
    screen = console(stderr=True)
    if screen.is_terminal:
        with _bar(screen, total, progress) as on_change:
            yield on_change
    else:
        yield _Log()


@contextmanager
def _bar(screen: Console, total: int | None, progress: Progress) -> Iterator[OnChange]:
    from rich import progress as bars

    columns = (
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=screen) as bar:
        line = bar.add_task("sending", total=total)

        def move(length: int | None) -> None:
            what = "sending" if length is None else f"waiting, the stream holds {length:,}"
            bar.update(line, completed=progress.sent, description=what)

        yield move


class _Log:
    """Reports the first wait only: while workers drain the stream, it stays at its limit most of the time."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, length: int | None) -> None:
        if length is not None and not self._said:
            say(f"waiting for the stream to become shorter: it holds {counted(length, 'entry', 'entries')}")
            self._said = True
