"""Interface of the result outputs, and creation of their files."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from legit_embedding.cli.results.results import ResultEntry


class Output(Protocol):
    """Receives results, one page at a time."""

    def write(self, entries: Sequence[ResultEntry]) -> None:
        """Write a page of results."""

    def close(self) -> str:
        """Finish, after an error too, and return a closing message. Called once."""


def create(path: Path, *, force: bool) -> IO[bytes]:
    """Create a file; an existing one is replaced only with `force`."""
    try:
        return path.open("wb" if force else "xb")
    except FileExistsError:
        message = f"{path} is there already; --force replaces it"
        raise click.ClickException(message) from None
