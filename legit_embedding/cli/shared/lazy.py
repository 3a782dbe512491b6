"""A group of commands that are imported only when they are called."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


class LazyGroup(click.Group):
    """Finds the command ``name`` in the module ``package.name``, as the attribute ``name``.

    Args:
        package: where the modules are.
        commands_help: what to say about each command in the group's own help, which therefore imports none of them.
        options: what a click group takes.
    """

    def __init__(self, *, package: str, commands_help: Mapping[str, str], **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self._package = package
        self._commands_help = commands_help

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        """The names, in the order of their registration."""
        return list(self._commands_help)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in self._commands_help:
            return None
        attribute = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"{self._package}.{attribute}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._commands_help.items()))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's interface
        """Run the command; what an operator can mend ends it with one line, not with a traceback."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from legit_embedding.cli.shared.failures import reason

            why = reason(error)
            if why is None:
                raise
            raise click.ClickException(why) from error
