"""``legit-embedding handoff``: list and sweep the hand-off directory."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from legit_embedding.cli.shared.ages import age
from legit_embedding.cli.shared.tables import table
from legit_embedding.cli.shared.terminal import console, counted, duration, print_json
from legit_embedding.config import load_settings
from legit_embedding.migration.handoffs import LeftOver, left_over, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SHOWN = 20


@click.group("handoff")
def handoff() -> None:
    """List and sweep the hand-off directory.

    A hand-off is a tensor file that an old prep worker wrote for an embed worker. It is deleted once its vector is
    written; one that stays for long belongs to a lost task.
    """


@handoff.command("list")
@click.option(
    "--older-than", type=age, metavar="AGE", default="0s", help="Only what is older than this, as 30min or 1h."
)
@click.option("--json", "as_json", is_flag=True, help='JSON: {"directory", "files": [{"path", "bytes", "age_s"}]}.')
def list_(older_than: float, as_json: bool) -> None:
    """List the hand-offs, oldest first."""
    directory = load_settings().handoff_dir
    _report(directory, left_over(directory, older_than), "", as_json=as_json)


@handoff.command("sweep")
@click.option(
    "--older-than", type=age, metavar="AGE", required=True, help="The age from which they go, as 30min or 1h."
)
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option("--json", "as_json", is_flag=True, help='JSON: {"directory", "files": [{"path", "bytes", "age_s"}]}.')
def sweep_(older_than: float, dry_run: bool, as_json: bool) -> None:
    """Remove hand-offs older than a given age.

    A task that is still queued needs its hand-off: choose an age above the longest wait. Other files and links are not
    touched.
    """
    directory = load_settings().handoff_dir
    files = left_over(directory, older_than) if dry_run else sweep(directory, older_than)
    _report(directory, files, " would be removed" if dry_run else " removed", as_json=as_json)


def _report(directory: Path, files: Sequence[LeftOver], what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"directory": str(directory), "files": [asdict(file) for file in files]})
        return
    rows = [(file.path, decimal(file.bytes), duration(file.age_s)) for file in files[:SHOWN]]
    if rows:
        title = f"The oldest {SHOWN}" if len(files) > SHOWN else "Hand-offs"
        console().print(table(title, ("file", "size", "age"), rows, right=("size", "age")))
    total = decimal(sum(file.bytes for file in files))
    click.echo(f"{counted(len(files), 'hand-off', 'hand-offs')}{what}, {total}, in {directory}")
