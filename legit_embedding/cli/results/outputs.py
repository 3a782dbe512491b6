"""What takes results in, and how a file for them is made."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from legit_embedding.cli.results.results import ResultEntry


class Output(Protocol):
    """Takes results in, a page at a time."""

    def write(self, entries: Sequence[ResultEntry]) -> None:
        """Take some more."""

    def close(self) -> str:
        """Finish, whatever happened; returns what there is to say about it. Called once."""


def create(path: Path, *, force: bool) -> IO[bytes]:
    """Make a new file; an old one is replaced only by `force`."""
    try:
        return path.open("wb" if force else "xb")
    except FileExistsError:
        message = f"{path} is there already; --force replaces it"
        raise click.ClickException(message) from None
