"""A settings file with every setting in it, commented out."""

from __future__ import annotations

import json
from textwrap import wrap
from typing import TYPE_CHECKING

from legit_embedding.cli.settings_reference import descriptions, sections, tables_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

HEADING = """\
# Settings of legit_embedding. What stands behind a # is the default. A variable wins over this file: LEGIT_ and the
# path joined by __, as LEGIT_STREAMS__GROUP. `legit-embedding settings` shows what is in force.
"""
MODELS = """\
# The models, by a name of your own, which tasks and results carry. Without any these two are there. A table without
# `backend` changes keys of the built-in model of its name.
#
# [models.eva02-l-14]
# kind = "image"
# backend = "open_clip"
# name = "EVA02-L-14"
# pretrained = "merged2b_s4b_b131k"
# default = true
#
# [models.minilm]
# kind = "text"
# backend = "transformers"
# name = "sentence-transformers/all-MiniLM-L6-v2"
# default = true
#
# Each may have:
"""
_WIDTH = 118


def settings_file() -> str:
    """The text of the file."""
    parts = [HEADING.rstrip()]
    for path, model in sections():
        of_models = path == "models.NAME"
        parts += ["" if not path else MODELS.rstrip() if of_models else f"[{path}]"]
        parts += _keys(model, "# " if of_models else "")
    return "\n".join(parts) + "\n"


def _keys(model: type[BaseModel], margin: str) -> Iterator[str]:
    """Each key with its meaning above it; tables have sections of their own."""
    meanings = descriptions(model)
    for name, field in model.model_fields.items():
        if not any(tables_in(field.annotation)):
            yield from (f"{margin}# {line}" for line in wrap(meanings.get(name, ""), _WIDTH))
            yield f"{margin}# {name} = {_default(field)}"
            yield margin.rstrip()


def _default(field: FieldInfo) -> str:
    """The default as TOML; what has none stands behind a comment of its own."""
    if field.is_required():
        return '""  # required'
    value = field.get_default(call_default_factory=True)
    return '""  # unset' if value is None else json.dumps(value, default=str)
