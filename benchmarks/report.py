"""The output of every benchmark."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all the benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser


def machine() -> dict[str, Any]:
    """Where the figures were measured."""
    return {"cpus": len(os.sched_getaffinity(0)), "python": platform.python_version(), "system": platform.machine()}


def show(title: str, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], path: Path | None) -> None:
    """Print a table and the ratios under it, and write both as JSON when a path is given."""
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    console = Console(width=120)
    console.print(table)
    for name, value in summary.items():
        console.print(f"{name}: [bold]{_text(value)}[/bold]")
    if path is not None:
        path.write_text(json.dumps({"title": title, "machine": machine(), "rows": rows, "summary": summary}, indent=2))


def _text(value: object) -> str:
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and abs(value) < 10
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )
