"""Settings in ``LEGIT_`` variables."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from legit_embedding.errors import ConfigError
from legit_embedding.settings.schema import Key, dotted, find, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

PREFIX = "LEGIT_"
CONFIG_VARIABLE = "LEGIT_CONFIG"
_SERVICE = re.compile(
    r"LEGIT(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9]+)*|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""Variables that Kubernetes and Docker links set in every container for a service called ``legit-...``."""
_SERVICE_PORT = re.compile(r"LEGIT(_[A-Z0-9]+)*_PORT=(tcp|udp|sctp)://.*")
"""One more, with its value: LEGIT_HTTP_PORT=8000 is a misspelt setting."""


def read(
    environment: Mapping[str, str], schema: type[BaseModel], named: Mapping[str, Any]
) -> Iterator[tuple[str, Key, Any]]:
    """Yield each variable that is a setting, its key, and its value; tables before what changes a part of them.

    Empty variables count as unset.

    Raises:
        ConfigError: a variable names no setting.
    """
    for variable in sorted(environment, key=lambda name: (name.count("__"), name)):
        text = environment[variable]
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or _is_of_a_service(variable, text):
            continue
        parts = variable.removeprefix(PREFIX).lower().split("__")
        found = find(parts, schema, named)
        if found is None:
            raise ConfigError(_unknown(variable, parts, schema, named))
        if text:
            key, kind = found
            yield variable, key, _decoded(text, kind)


def variable_of(key: str) -> str:
    """The variable of a dotted key."""
    return PREFIX + key.replace(".", "__").replace("-", "_").upper()


def _is_of_a_service(variable: str, text: str) -> bool:
    return bool(_SERVICE.fullmatch(variable) or _SERVICE_PORT.fullmatch(f"{variable}={text}"))


def _unknown(variable: str, parts: list[str], schema: type[BaseModel], named: Mapping[str, Any]) -> str:
    near = nearest(parts, schema, named)
    hint = f"; did you mean {variable_of(near)}?" if near else ""
    return f"{variable}: there is no setting {dotted(parts)!r}{hint}"


def _decoded(text: str, kind: Any) -> Any:  # noqa: ANN401 - any annotation, and whatever it describes
    """Decode JSON, or a list with commas, where the setting is not plain text or a number."""
    if kind is not Any and _fits(text, kind):
        return text
    if text.lstrip()[:1] in {"[", "{"}:
        with suppress(ValueError):
            return json.loads(text)
    if any(get_origin(each) is tuple for each in (kind, *get_args(kind))):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _fits(text: str, kind: Any) -> bool:  # noqa: ANN401 - any annotation
    try:
        TypeAdapter(kind).validate_python(text)
    except ValidationError:
        return False
    return True
