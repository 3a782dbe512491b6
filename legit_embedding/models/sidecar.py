"""What sentence-transformers keeps beside a model's own files: its limit, pooling, prompts and further layers."""

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
# In the order in which the library joins them.
_LEGACY_MODES = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
_LEGACY_PREFIX = "pooling_mode_"
_LIBRARY = "sentence_transformers."
_FIRST, _POOLING = "Transformer", "Pooling"


@dataclass(frozen=True, slots=True)
class Module:
    """One of the steps that ``modules.json`` lists."""

    type: str
    """The class's name, with its package's where that is not sentence-transformers' own."""
    path: str
    """The folder of its files, within the model's."""
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The facts, as far as the model has them."""

    max_tokens: int | None = None
    """The length at which sentence-transformers cuts a text."""
    lower_case: bool = False
    """Whether a text is put into lower case first, whatever the tokenizer does."""
    pooling: tuple[str, ...] = ()
    """Names of poolings, whose vectors are joined; nothing where nothing is said."""
    pools_prompt: bool = True
    """Whether the tokens of a prompt count in the pooling."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    first: str = _FIRST
    """What makes vectors of tokens."""
    layers: tuple[Module, ...] = ()
    """What a vector passes through after the pooling, in order."""
    before_pooling: tuple[str, ...] = ()
    """What the tokens' vectors pass through before the pooling."""

    @classmethod
    def read(cls, read: Read, model_type: str) -> Sidecar:
        """Read a model's files; one that isn't there says nothing.

        Args:
            read: the content of a JSON file of the model by its path; an empty object where there is none.
            model_type: as transformers calls the architecture.
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
