"""The keys that a settings model knows."""

from __future__ import annotations

from difflib import get_close_matches
from inspect import isclass
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Key = tuple[str, ...]
"""A setting's path: ``("streams", "group")``."""


def dotted(key: Sequence[object]) -> str:
    """Write a key as in messages and documents."""
    return ".".join(map(str, key))


def find(parts: Sequence[str], schema: type[BaseModel], named: Mapping[str, Any]) -> tuple[Key, Any] | None:
    """Return the key that a variable's parts stand for, and its type; None if there is no such setting.

    Args:
        parts: the parts of the variable's name, in lower case; `_` may stand for `-`.
        schema: the settings model.
        named: tables that already have names of the operator's choosing, such as those of models.
    """
    key: list[str] = []
    kind: Any = schema
    for part in parts:
        model = _model(kind)
        if model is not None:
            name = part.replace("-", "_")
            if name not in model.model_fields:
                return None
            kind = model.model_fields[name].annotation
        elif get_origin(kind) is dict or kind is Any:
            name = next((each for each in named if _plain(each) == _plain(part)), part)
            kind = get_args(kind)[1] if get_args(kind) else Any
        else:
            return None
        key.append(name)
        below = named.get(name)
        named = below if isinstance(below, dict) else {}
    return tuple(key), kind


def nearest(key: Sequence[object], schema: type[BaseModel], named: Mapping[str, Any]) -> str | None:
    """Return the known key that is spelt most like this one, if any is close."""
    known = {dotted(each) for each in keys(schema, named)}
    return next(iter(get_close_matches(dotted(key), known, n=1, cutoff=0.7)), None)


def keys(schema: type[BaseModel], named: Mapping[str, Any]) -> Iterator[Key]:
    """Every key that can be set, with those tables' names."""
    for name, field in schema.model_fields.items():
        yield (name,)
        model, below = _model(field.annotation), named.get(name, {})
        if model is not None:
            yield from ((name, *rest) for rest in keys(model, below))
        elif get_origin(field.annotation) is dict and (model := _model(get_args(field.annotation)[1])) is not None:
            for each in below:
                yield from ((name, each, *rest) for rest in keys(model, below[each]))


def leaves(table: Mapping[str, Any], above: Key = ()) -> Iterator[Key]:
    """The keys of the values in a nested table."""
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name)


def _model(kind: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any annotation
    return kind if isclass(kind) and issubclass(kind, BaseModel) else None


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
