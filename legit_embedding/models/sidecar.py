"""sentence-transformers' metadata in a model's files: length limit, pooling, prompts and additional layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Read = Callable[[str], Any]

_MODES = {
    "mean": "mean",
    "mean_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "lasttoken": "last",
    "max": "max",
    "max_tokens": "max",
    "weightedmean": "weightedmean",
    "weightedmean_tokens": "weightedmean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
}
# In the order in which the library concatenates them.
_LEGACY_MODES = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
_LEGACY_PREFIX = "pooling_mode_"
_LIBRARY = "sentence_transformers."
_FIRST, _POOLING = "Transformer", "Pooling"


@dataclass(frozen=True, slots=True)
class Module:
    """Entry of ``modules.json``."""

    type: str
    """Class name, qualified with its package unless it is sentence-transformers' own."""
    path: str
    """Folder of its files, relative to the model's."""
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Metadata of one model, with defaults where the model has none."""

    max_tokens: int | None = None
    """Length at which sentence-transformers truncates a text."""
    lower_case: bool = False
    """True if texts are lowercased first, regardless of the tokenizer."""
    pooling: tuple[str, ...] = ()
    """Names of poolings, whose vectors are concatenated; empty if unspecified."""
    pools_prompt: bool = True
    """True if pooling includes a prompt's tokens."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    first: str = _FIRST
    """Type of the first module, which turns tokens into vectors."""
    layers: tuple[Module, ...] = ()
    """Layers applied to the vector after pooling, in order."""
    before_pooling: tuple[str, ...] = ()
    """Types of the modules applied to the token vectors before pooling."""

    @classmethod
    def read(cls, read: Read, model_type: str) -> Sidecar:
        """Read a model's metadata files; any of them may be missing.

        Args:
            read: returns the content of one of the model's JSON files by path; an empty object if it is missing.
            model_type: transformers' name for the architecture.
        """
        transformer = read("sentence_bert_config.json") or read(f"sentence_{model_type}_config.json")
        about = read("config_sentence_transformers.json")
        modules = [_module(entry) for entry in read("modules.json") or ()]
        types = [module.type for module in modules]
        at = types.index(_POOLING) if _POOLING in types else 0
        pooling = read(f"{modules[at].path if modules else '1_Pooling'}/config.json") if at or not modules else {}
        return cls(
            max_tokens=transformer.get("max_seq_length"),
            lower_case=bool(transformer.get("do_lower_case", False)),
            pooling=_pooling_modes(pooling),
            pools_prompt=bool(pooling.get("include_prompt", True)),
            prompts={name: text or "" for name, text in (about.get("prompts") or {}).items()},
            default_prompt=about.get("default_prompt_name") or "",
            first=types[0] if types else _FIRST,
            layers=tuple(_configured(module, read) for module in modules[at + 1 :]),
            before_pooling=tuple(types[1:at]),
        )


def _module(entry: dict[str, Any]) -> Module:
    package, _, name = str(entry.get("type", "")).rpartition(".")
    return Module(name if f"{package}.".startswith(_LIBRARY) else f"{package}.{name}", str(entry.get("path", "")))


def _configured(module: Module, read: Read) -> Module:
    config = (read(f"{module.path}/config.json") if module.path else None) or {}
    return Module(module.type, module.path, config)


def _pooling_modes(pooling: dict[str, Any]) -> tuple[str, ...]:
    modes = pooling.get("pooling_mode")
    if modes is None:
        modes = [mode for mode in _LEGACY_MODES if pooling.get(f"{_LEGACY_PREFIX}{mode}") is True]
    names = [modes] if isinstance(modes, str) else list(modes)
    return tuple(_MODES.get(name, name) for name in names)
