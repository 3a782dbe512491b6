"""Calls the operator's command in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from legit_embedding.cli import main

if TYPE_CHECKING:
    from click.testing import Result


class Cli:
    """The command with its settings.

    Args:
        settings: as variables, without their prefix.
    """

    def __init__(self, **settings: str) -> None:
        self._environment = {f"LEGIT_{name}": value for name, value in settings.items()} | {"COLUMNS": "160"}

    def __call__(
        self, *arguments: object, stdin: str | bytes | None = None, code: int | None = 0, **settings: str
    ) -> Result:
        """Call it; it must end with `code`, if one is given, and never with a traceback."""
        environment = self._environment | {f"LEGIT_{name}": value for name, value in settings.items()}
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], stdin, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert code in {None, result.exit_code}, f"exit code {result.exit_code}\n{result.stdout}\n{result.stderr}"
        return result

    def json(self, *arguments: object, **options: Any) -> Any:
        """The one JSON document that it prints."""
        return json.loads(self(*arguments, **options).stdout)

    def lines(self, *arguments: object, **options: Any) -> list[Any]:
        """The JSON lines that it prints."""
        return [json.loads(line) for line in self(*arguments, **options).stdout.splitlines()]

    def failure(self, *arguments: object, code: int = 1, **options: Any) -> str:
        """The one line that it fails with."""
        result = self(*arguments, code=code, **options)
        lines = result.stderr.splitlines()
        assert lines[-1].startswith("Error: "), result.stderr
        assert code != 1 or len(lines) == 1, result.stderr
        return lines[-1].removeprefix("Error: ")
