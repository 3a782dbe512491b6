"""The reference page of all settings, made from the settings models; printed by running this module.

A field's meaning is the docstring below it. It is read from the source only here, so that a worker and a producer start
without parsing it.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from legit_embedding.config import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

INTRODUCTION = """\
# Settings

<!-- Made by scripts/settings_reference from the docstrings of the settings models: change those, not this page. -->

Settings come from one TOML file: `legit.toml` in the working directory, or the file that `LEGIT_CONFIG` names. Each can
be overridden from the environment by `LEGIT_` and its path, joined by `__`: `streams.group` is `LEGIT_STREAMS__GROUP`.
In names of variables `_` stands for `-` too (`LEGIT_MODELS__EVA02_L_14__WEIGHT`). A list is separated by commas or
written as JSON, a table as JSON. Without a file and without variables the worker runs on the defaults below. A key that
is unknown, or a value that does not fit, stops the start with one line that names the variable or the line of the file.
Variables that Kubernetes sets for a Service called `legit-...` are ignored. `legit-embedding settings` shows what is in
force, and where each value was set.

A table `models.NAME` without a `backend` changes keys of the built-in model of that name, and the other built-in model
stays. A model with a `backend` is your own: then the models are those that you name.

Streams and other names are described in the [contract](contract.md).
"""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
NAMES = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean", "object": "table"}
BUILT_IN = "two models"
"""Stands for the default of ``models``, which is too long for a table."""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([INTRODUCTION, *(_section(path, model) for path, model in sections())])


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Each settings model with the path under which it stands: the top level first, as an empty path."""
    yield "", Settings
    for name, field in Settings.model_fields.items():
        for model in tables_in(field.annotation):
            yield (name if model is field.annotation else f"{name}.NAME"), model


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings of a model's fields, in one line each; a field without one is absent."""
    (definition,) = ast.parse(dedent(inspect.getsource(model))).body
    found = {}
    for statement, following in pairwise(getattr(definition, "body", [])):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def tables_in(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 - any annotation
    """The settings models in an annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from tables_in(part)


def _section(path: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    meanings = descriptions(model)
    heading = f"## `{path}`\n\n{inspect.getdoc(model)}" if path else "## Top level"
    lines = [heading, "", "| key | type and range | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if any(tables_in(field.annotation)):
            where = f"a table: [below](#{name}{'name' if name == 'models' else ''})"
            default = BUILT_IN if name == "models" else "its own"
        else:
            where, default = _type(schema["properties"][name]), _default(field)
        cells = (f"`{name}`", where, default, meanings.get(name, ""))
        lines.append(f"| {' | '.join(cell.replace('|', r'&#124;') for cell in cells)} |")
    return "\n".join([*lines, ""])


def _type(schema: dict[str, Any]) -> str:
    """The type and the range that a JSON schema says."""
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of: {_type(schema['items'])}"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"table of: {_type(values)}"
    name = "path" if schema.get("format") == "path" else NAMES[schema["type"]]
    bounds = [f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema]
    pattern = [f"like `{schema['pattern']}`"] if "pattern" in schema else []
    return ", ".join([name, *bounds, *pattern])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "unset"
    plain = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    return f"`{json.dumps(plain)}`"


if __name__ == "__main__":
    sys.stdout.write(page())
