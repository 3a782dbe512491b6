"""Click group that imports its commands only when they are called."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


INTERRUPTED = 130
"""Exit code after Ctrl-C, by the shells' convention: 128 + SIGINT."""


class LazyCommand(NamedTuple):
    """A command that is not imported yet."""

    module: str
    """Its module; the command's attribute there is its own name with ``_`` for ``-``."""
    help: str
    """Its line in the group's help, which is printed without importing any command."""


class LazyGroup(click.Group):
    """Imports a command when it is called.

    Args:
        lazy_commands: the commands by name.
        options: passed to ``click.Group``.
    """

    def __init__(self, *, lazy_commands: Mapping[str, LazyCommand], **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self._lazy_commands = lazy_commands

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        """Return the names in order of registration."""
        return list(self._lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in self._lazy_commands:
            return None
        module = import_module(self._lazy_commands[cmd_name].module)
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self._lazy_commands.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's interface
        """Run the command; an error that the operator can fix ends it with one line, and Ctrl-C without any."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except Exception as error:
            from legit_embedding.cli.shared.failures import reason

            why = reason(error)
            if why is None:
                raise
            raise click.ClickException(why) from error
