"""Settings of one model: ``models.NAME``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["image", "text"]
KINDS: tuple[Kind, ...] = ("image", "text")
Pooling = Literal["mean", "cls", "last", "lasttoken", "max", "weightedmean", "mean_sqrt_len", "pooler"]
Overflow = Literal["truncate", "refuse", "mean"]
_Positive = Annotated[int, Field(gt=0)]


class ModelConfig(BaseModel):
    """One model of the registry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind | None = None
    """The single kind that the model serves; of a model with two towers only this one is loaded."""
    kinds: tuple[Kind, ...] = ()
    """The kinds that the model serves, as an alternative to `kind` that may name both."""
    backend: str
    name: str = ""
    pretrained: str = ""
    revision: str = ""
    """The commit, tag or branch of the model's repository on the hub."""
    default: bool | tuple[Kind, ...] = False
    """Makes this the model for tasks that name none: for all the kinds it serves, or for those listed."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    linger_ms: Annotated[int, Field(ge=0)] = 0
    max_batch: _Positive | None = None
    max_tokens: _Positive | None = None
    overflow: Overflow = "truncate"
    """Handling of texts beyond the limit: truncate, refuse, or embed in windows and average."""
    truncate: bool = True
    """False is equivalent to ``overflow = "refuse"``."""
    pooling: Pooling | None = None
    """Pooling of tokens or patches into one vector; None for the model's own."""
    prompts: dict[str, str] = Field(default_factory=dict)
    """Text prefixes by the prompt name used in tasks; empty for the model's own."""
    default_prompt: str | None = None
    """Prompt for tasks that name none; None for the model's own, an empty string for no prompt."""
    normalize: bool = True
    dimensions: _Positive | None = None
    """Vector length if shorter than the model's full length: one of `matryoshka`."""
    matryoshka: tuple[_Positive, ...] = ()
    """Lengths to which the model's vectors may be truncated."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Backend-specific settings, for a backend given as ``package.module:Class``."""

    @property
    def serves(self) -> tuple[Kind, ...]:
        """Kinds of tasks that the model serves, images first."""
        return tuple(kind for kind in KINDS if kind == self.kind or kind in self.kinds)

    @property
    def beyond_limit(self) -> Overflow:
        """Effective overflow handling, from `overflow` or `truncate`."""
        return self.overflow if self.truncate else "refuse"

    def is_default(self, kind: Kind) -> bool:
        """Return True if this is the default model for tasks of this kind."""
        if isinstance(self.default, bool):
            return self.default and kind in self.serves
        return kind in self.default

    def only(self, kind: Kind) -> ModelConfig:
        """Return the settings restricted to one of the model's towers."""
        return self.model_copy(update={"kind": kind, "kinds": ()})

    @model_validator(mode="after")
    def _check_kinds(self) -> ModelConfig:
        if bool(self.kind) == bool(self.kinds):
            given = "both are set" if self.kind else "neither is set"
            message = f"kind: expected kind (image or text) or kinds (a list of them), and {given}"
            raise ValueError(message)
        if not isinstance(self.default, bool) and not set(self.default) <= set(self.serves):
            message = f"default: the model serves {' and '.join(self.serves)} only"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_texts(self) -> ModelConfig:
        if not self.truncate and "overflow" in self.model_fields_set and self.overflow != "refuse":
            message = f"overflow: {self.overflow!r} contradicts truncate = false"
            raise ValueError(message)
        if self.dimensions is not None and self.dimensions not in self.matryoshka:
            message = f"dimensions: {self.dimensions} is not among the lengths in matryoshka"
            raise ValueError(message)
        return self


def default_model(models: Mapping[str, ModelConfig], kind: Kind) -> str | None:
    """Return the model for tasks of this kind that name none: the default, or the only one."""
    names = [name for name, model in models.items() if kind in model.serves]
    marked = [name for name in names if models[name].is_default(kind)]
    candidates = marked or names
    return candidates[0] if len(candidates) == 1 else None
