"""The settings file: TOML, with the line of each key."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legit_embedding.errors import ConfigError
from legit_embedding.settings.environment import CONFIG_VARIABLE
from legit_embedding.settings.schema import Key, leaves

if TYPE_CHECKING:
    from collections.abc import Mapping

_AT_LINE = re.compile(r"(.*) \(at line (\d+), column \d+\)")


def config_file() -> Path | None:
    """The settings file in use, or None.

    Raises:
        ConfigError: ``LEGIT_CONFIG`` names a file that does not exist.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file():
            message = f"{CONFIG_VARIABLE}: there is no file {named!r}"
            raise ConfigError(message)
        return path
    path = Path("legit.toml")
    return path if path.is_file() else None


def read(path: Path) -> dict[str, Any]:
    """Read a settings file.

    Raises:
        ConfigError: it cannot be read, or is not TOML; the message names the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.fullmatch(str(error))
        where, problem = (f"{path}:{found[2]}", found[1]) if found else (str(path), str(error))
        message = f"{where}: {problem}"
        raise ConfigError(message) from error
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: {error}"
        raise ConfigError(message) from error


def lines(path: Path) -> Mapping[Key, int]:
    """The line, from 1, at which each value of a settings file begins.

    The file is parsed again up to each line, which the standard library's parser, without positions, leaves as the one
    way that is right for all of TOML. A value begins after the last line at which the file was whole.
    """
    found: dict[Key, int] = {}
    text = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = 0
    for number in range(1, len(text) + 1):
        try:
            table = tomllib.loads("".join(text[:number]))
        except tomllib.TOMLDecodeError:
            continue
        for key in leaves(table):
            found.setdefault(key, whole + 1)
        whole = number
    return found
