"""The settings of one model: ``models.NAME``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["image", "text"]
KINDS: tuple[Kind, ...] = ("image", "text")
Pooling = Literal["mean", "cls", "last", "lasttoken", "max", "weightedmean", "mean_sqrt_len", "pooler"]
Encoding = Literal["base64_fp32", "base64_fp16", "base64_int8", "base64_binary"]
Overflow = Literal["truncate", "refuse", "mean"]
_Positive = Annotated[int, Field(gt=0)]


class ModelConfig(BaseModel):
    """One model of the registry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind | None = None
    """The one kind that the model serves; of a model with two towers only this half is loaded."""
    kinds: tuple[Kind, ...] = ()
    """The same as a list, which may name both."""
    backend: str
    """`open_clip`, `transformers`, or `package.module:Class` for a backend of your own."""
    name: str = ""
    """The model's name in its library: an open_clip architecture, or a repository or folder for transformers."""
    pretrained: str = ""
    """The weights: a tag of the library, a path, `random:SEED` for seeded random ones, or `package:NAME` for weights
    that a Python package ships. Empty for those that belong to `name`."""
    revision: str = ""
    """The commit, tag or branch of the model's repository on the hub."""
    default: bool | tuple[Kind, ...] = False
    """Whether tasks that name no model come here: of every kind that it serves, or of these. An only
    model is the default without it."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """The model's share of device time, relative to the other models' weights, while several have work waiting."""
    interactive_share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """The share of its batches that interactive items get while bulk items wait too; the rest is kept for bulk."""
    linger_ms: Annotated[int, Field(ge=0)] = 0
    """How long a batch that is not full waits for more items, in milliseconds."""
    max_batch: _Positive | None = None
    """How many items a batch has at most; unset for what memory and speed allow."""
    max_tokens: _Positive | None = None
    """How many tokens a text may have, special tokens included; unset for the model's own limit."""
    overflow: Overflow = "truncate"
    """What happens to a text beyond the limit: it is cut, refused, or embedded in windows that are averaged."""
    truncate: bool = True
    """False is another spelling of ``overflow = "refuse"``."""
    pooling: Pooling | None = None
    """From tokens, or patches, to one vector; unset for the model's own."""
    prompts: dict[str, str] = Field(default_factory=dict)
    """What is put before a text, by the name that tasks give; empty for the model's own."""
    default_prompt: str | None = None
    """The prompt of tasks that name none; unset for the model's own, an empty string for none at all."""
    normalize: bool = True
    """Whether vectors are L2-normalised."""
    dimensions: _Positive | None = None
    """The length of a vector, where it is not the model's full one: one of `matryoshka`."""
    matryoshka: tuple[_Positive, ...] = ()
    """The lengths to which the model's vectors may be cut."""
    encoding: Encoding = "base64_fp32"
    """How results carry the vectors: as floats of 32 or 16 bits, as int8 with a scale, or as sign bits."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword settings of a backend that is given as `package.module:Class`."""

    @property
    def serves(self) -> tuple[Kind, ...]:
        """The kinds of tasks that the model takes, images first."""
        return tuple(kind for kind in KINDS if kind == self.kind or kind in self.kinds)

    @property
    def beyond_limit(self) -> Overflow:
        """`overflow`, or what `truncate` says in its place."""
        return self.overflow if self.truncate else "refuse"

    def is_default(self, kind: Kind) -> bool:
        """Whether tasks of this kind that name no model come here."""
        if isinstance(self.default, bool):
            return self.default and kind in self.serves
        return kind in self.default

    def only(self, kind: Kind) -> ModelConfig:
        """The same settings for one of the model's towers."""
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
    """The name of the model for tasks of this kind that name none: the default, or the only one."""
    names = [name for name, model in models.items() if kind in model.serves]
    marked = [name for name in names if models[name].is_default(kind)]
    candidates = marked or names
    return candidates[0] if len(candidates) == 1 else None
