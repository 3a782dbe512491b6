"""Everything that the file and the environment say, in one table, with the place of each value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

from legit_embedding.errors import plain
from legit_embedding.settings import environment, file
from legit_embedding.settings.schema import Key, dotted, leaves, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_MOST_PLACES = 3


@dataclass(frozen=True)
class Given:
    """The settings that the operator has set."""

    schema: type[BaseModel]
    named: dict[str, Any]
    """The file's table and the built-in models', for the names in them."""
    values: dict[str, Any]
    variables: dict[Key, str]
    """The variable of each value that comes from one."""
    path: Path | None

    @classmethod
    def read(cls, schema: type[BaseModel], built_in: Mapping[str, Any]) -> Given:
        """Read the settings file and, over it, the environment.

        Args:
            schema: the settings model.
            built_in: tables of the defaults whose names a variable may use.

        Raises:
            ConfigError: the file cannot be read, or a variable names no setting.
        """
        path = file.config_file()
        values = file.read(path) if path is not None else {}
        named = _merged(built_in, values)
        variables: dict[Key, str] = {}
        for variable, key, value in environment.read(os.environ, schema, named):
            table: Any = value
            for name in reversed(key):
                table = {name: table}
            values = _merged(values, table)
            variables |= dict.fromkeys(leaves(table), variable)
        return cls(schema, named, values, variables, path)

    def place(self, key: Key) -> str:
        """Return where a value was set: a variable, or ``file:line``; empty for a default."""
        return ", ".join(self._places(key)[:_MOST_PLACES])

    def problems(self, error: ValidationError) -> str:
        """Describe what does not fit in one line, each problem with its place."""
        return "; ".join(dict.fromkeys(self._problem(each) for each in error.errors()))

    @cached_property
    def _lines(self) -> dict[Key, str]:
        return {key: f"{self.path}:{line}" for key, line in file.lines(self.path).items()} if self.path else {}

    @cached_property
    def _leaves(self) -> set[Key]:
        """The keys of the values; a heading below which all keys are commented out sets nothing."""
        return {key for key in leaves(self.values) if self._at(key) != {}}

    def _at(self, key: Key) -> Any:  # noqa: ANN401 - any value
        return reduce(lambda table, name: table[name], key, self.values)

    def _places(self, key: Key) -> list[str]:
        """The places of this value, or of the list or table it stands in, or of all that stands below it."""
        for places in (self.variables, self._lines):
            above = [places[each] for each in self._around(key) if each in places]
            below = [place for each, place in places.items() if each[: len(key)] == key] if key else []
            if above or below:
                return above[:1] or list(dict.fromkeys(below))
        return []

    def _around(self, key: Key) -> list[Key]:
        """The key, and the list that it is a part of; not its table, which may have been set in part only."""
        return [key, *(key[:length] for length in range(len(key) - 1, 0, -1) if key[:length] in self._leaves)]

    def _problem(self, error: ErrorDetails) -> str:
        key = tuple(map(str, error["loc"]))
        place = self.place(key[:-1] if error["type"] == "missing" else key)
        where = ": ".join(filter(None, (place, dotted(key) or "settings")))
        if error["type"] == "extra_forbidden":
            near = nearest(key, self.schema, self.named)
            return f"{where}: there is no such setting" + (f"; did you mean {near}?" if near else "")
        return f"{where}: {plain(error)}"


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A nested table with another over it."""
    both = dict(below)
    for name, value in above.items():
        under = both.get(name)
        both[name] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return both
