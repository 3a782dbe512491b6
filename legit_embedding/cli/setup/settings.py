"""``legit-embedding settings``: the settings in force, and where each was set."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from legit_embedding.cli.shared.tables import table
from legit_embedding.cli.shared.terminal import console, print_json
from legit_embedding.config import given, load_settings
from legit_embedding.settings.schema import dotted, leaves
from legit_embedding.telemetry.logs import HIDDEN, mask

if TYPE_CHECKING:
    from legit_embedding.settings.schema import Key

DEFAULT = "default"
_SECRET = re.compile(r"token|password|secret|api_?key|credential", re.IGNORECASE)
_NOT_SECRET = "max_tokens"  # noqa: S105 - a number of tokens


@click.command("settings")
@click.option("--set", "only_set", is_flag=True, help="Only what the file or a variable sets.")
@click.option("--json", "as_json", is_flag=True, help="JSON: one object keyed by setting.")
def settings(only_set: bool, as_json: bool) -> None:
    """Show the settings in force, and where each was set: a variable, FILE:LINE, or nowhere (default).

    Secrets are masked.

    \b
    --json prints
      {KEY: {"value", "from"}, …}
    """  # noqa: D301 - the escape is click's
    in_force = load_settings().model_dump(mode="json")
    operators = given()
    rows = [(key, _public(key, in_force), operators.place(key) or DEFAULT) for key in leaves(in_force)]
    shown = [row for row in rows if not only_set or row[2] != DEFAULT]
    if as_json:
        print_json({dotted(key): {"value": value, "from": place} for key, value, place in shown})
    else:
        cells = [(dotted(key), json.dumps(value, ensure_ascii=False), place) for key, value, place in shown]
        console().print(table("" if cells else "Nothing is set", ("Setting", "Value", "From"), cells))


def _public(key: Key, tree: Any) -> Any:  # noqa: ANN401 - whatever a setting holds
    """The value of a key, without secrets."""
    value = tree
    for name in key:
        value = value[name]
    if value and _SECRET.search(key[-1]) and key[-1] != _NOT_SECRET:
        return HIDDEN
    return mask(value) if isinstance(value, str) else value
