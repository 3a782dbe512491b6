"""What sentence-transformers keeps beside a model's own files: its length limit, its pooling, its further layers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

_POOLING = "1_Pooling/config.json"
_MODES = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls", "lasttoken": "last"}
_LEGACY_MODE = "pooling_mode_"
# What this package does itself, or what changes nothing for one text.
_KNOWN_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The facts, as far as the model has them."""

    max_tokens: int | None = None
    """The length at which sentence-transformers cuts a text."""
    lower_case: bool = False
    """Whether a text is put into lower case first, whatever the tokenizer does."""
    pooling: str | None = None
    """``mean``, ``cls`` or ``last``; any other mode by its own name; None where nothing is said."""
    further_modules: tuple[str, ...] = ()
    """Layers after the pooling that a vector would have to pass through."""

    @classmethod
    def read(cls, source: str, model_type: str) -> Sidecar:
        """Read the files of a model given by its hub id or its folder; a file that isn't there says nothing."""
        transformer = _json(source, "sentence_bert_config.json") or _json(source, f"sentence_{model_type}_config.json")
        modules = [str(module.get("type", "")).rpartition(".")[2] for module in _json(source, "modules.json") or ()]
        return cls(
            max_tokens=transformer.get("max_seq_length"),
            lower_case=bool(transformer.get("do_lower_case", False)),
            pooling=_pooling_mode(_json(source, _POOLING)),
            further_modules=tuple(module for module in modules if module not in _KNOWN_MODULES),
        )


def _json(source: str, name: str) -> Any:  # noqa: ANN401 - a list or an object, as the file is
    try:
        path = cached_file(source, name)
    except OSError:
        return {}
    return json.loads(Path(path).read_text("utf-8")) if path else {}


def _pooling_mode(pooling: dict[str, Any]) -> str | None:
    modes = pooling.get("pooling_mode")
    if modes is None:
        modes = [
            key.removeprefix(_LEGACY_MODE) for key, on in pooling.items() if key.startswith(_LEGACY_MODE) and on is True
        ]
    names = [modes] if isinstance(modes, str) else list(modes)
    return "+".join(_MODES.get(name, name) for name in names) or None
