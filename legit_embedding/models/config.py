"""The settings of one model: ``models.NAME``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["image", "text"]
KINDS: tuple[Kind, ...] = ("image", "text")
Pooling = Literal["mean", "cls", "last", "lasttoken", "max", "weightedmean", "mean_sqrt_len", "pooler"]
Encoding = Literal["base64_fp32", "base64_fp16", "base64_int8", "base64_binary"]
Overflow = Literal["truncate", "refuse", "mean"]
_Positive = Annotated[int, Field(gt=0)]
_Seconds = Annotated[float, Field(gt=0)]

REMOTE_BACKENDS = frozenset({"http", "openai", "ollama"})
"""Backends whose models are computed elsewhere."""
_OF_REMOTE = frozenset({"base_url", "token", "token_file", "timeout_s", "health_timeout_s", "max_requests"})
_OF_LOCAL = frozenset(
    {"pretrained", "revision", "weight", "max_tokens", "overflow", "truncate", "pooling", "cache_s", "options"}
)


class ModelConfig(BaseModel):
    """One model of the registry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind | None = None
    """The one kind that the model serves; of a model with two towers only this half is loaded."""
    kinds: tuple[Kind, ...] = ()
    """The same as a list, which may name both."""
    backend: str
    """`open_clip`, `transformers`, or `package.module:Class` for a backend of your own; `http`, `openai` or `ollama`
    for a model that is computed elsewhere."""
    name: str = ""
    """The model's name in its library: an open_clip architecture, or a repository or folder for transformers; of a
    remote model, the name that the remote knows it by."""
    pretrained: str = ""
    """The weights: a tag of the library, a path, `random:SEED` for seeded random ones, or `package:NAME` for weights
    that a Python package ships. Empty for those that belong to `name`."""
    revision: str = ""
    """The commit, tag or branch of the model's repository on the hub."""
    default: bool | tuple[Kind, ...] = False
    """True if tasks that name no model come here: of every kind that it serves, or of these. An only
    model is the default without it."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """The model's share of device time, relative to the other models' weights, while several have work waiting."""
    interactive_share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """The most of its time that interactive items get while bulk items wait too; the rest is kept for bulk."""
    linger_ms: Annotated[int, Field(ge=0)] = 0
    """The time that a batch that is not full waits for more items, in milliseconds."""
    max_batch: _Positive | None = None
    """The most items in a batch; unset for what memory and speed allow, and for 32 to a remote model."""
    max_tokens: _Positive | None = None
    """The most tokens that a text may have, special tokens included; unset for the model's own limit."""
    overflow: Overflow = "truncate"
    """The treatment of a text beyond the limit: it is cut, refused, or embedded in windows that are averaged."""
    truncate: bool = True
    """False is another spelling of ``overflow = "refuse"``."""
    pooling: Pooling | None = None
    """From tokens, or patches, to one vector; unset for the model's own."""
    prompts: dict[str, str] = Field(default_factory=dict)
    """The prompts that are put before a text, by the name that tasks give; empty for the model's own."""
    default_prompt: str | None = None
    """The prompt of tasks that name none; unset for the model's own, an empty string for none at all."""
    normalize: bool = True
    """True if vectors are L2-normalised."""
    dimensions: _Positive | None = None
    """The length of a vector, where it is not the model's full one: one of `matryoshka`. Of a remote model it may be
    any other length, which the remote is then asked for."""
    matryoshka: tuple[_Positive, ...] = ()
    """The lengths to which the model's vectors may be cut."""
    encoding: Encoding = "base64_fp32"
    """The form of vectors in results: floats of 32 or 16 bits, int8 with a scale, or sign bits."""
    cache_s: Annotated[int, Field(ge=0)] = 0
    """The time for which a vector is kept in Redis for items with the same content, in seconds; 0 to keep none."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword settings of a backend that is given as `package.module:Class`."""
    base_url: str = ""
    """Where a remote model is: `https://host:port`, with a path in front of the protocol's own if there is one."""
    token: SecretStr | None = None
    """The bearer token that a remote model asks for; unset for none."""
    token_file: Path | None = None
    """A file that holds the token instead. It is read at every request, so the token may be changed at any time."""
    timeout_s: _Seconds = 30.0
    """The longest that a remote model may take to answer a request, in seconds."""
    health_timeout_s: _Seconds = 3.0
    """The longest that a remote model may take to answer a probe before health calls it slow, in seconds."""
    max_requests: _Positive = 4
    """The most requests to a remote model in flight, each with one batch."""

    @property
    def is_remote(self) -> bool:
        """True if the model is computed elsewhere."""
        return self.backend in REMOTE_BACKENDS

    @property
    def asked_dimensions(self) -> int | None:
        """The length of vector that a remote is asked for; None for its own, which may be cut here."""
        return self.dimensions if self.is_remote and self.dimensions not in self.matryoshka else None

    @property
    def serves(self) -> tuple[Kind, ...]:
        """The kinds of tasks that the model takes, images first."""
        return tuple(kind for kind in KINDS if kind == self.kind or kind in self.kinds)

    @property
    def beyond_limit(self) -> Overflow:
        """`overflow`, or what `truncate` says in its place."""
        return self.overflow if self.truncate else "refuse"

    def is_default(self, kind: Kind) -> bool:
        """True if tasks of this kind that name no model come here."""
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
        if self.dimensions is None or self.dimensions in self.matryoshka:
            return self
        if not self.is_remote:
            message = f"dimensions: {self.dimensions} is not among the lengths in matryoshka"
            raise ValueError(message)
        if max(self.matryoshka, default=0) > self.dimensions:
            message = f"matryoshka: the remote is asked for {self.dimensions} dimensions, and none is cut to more"
            raise ValueError(message)
        return self

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, url: str) -> str:
        if url and not _is_plain_address(url):
            # The address may hold a secret, so it is not repeated.
            message = "expected an address like https://host:port/path, without a user, a query or a fragment"
            raise ValueError(message)
        return url.rstrip("/")

    @model_validator(mode="after")
    def _check_remote(self) -> ModelConfig:
        strange = self.model_fields_set & (_OF_LOCAL if self.is_remote else _OF_REMOTE)
        if strange:
            message = f"{min(strange)}: a model with backend = {self.backend!r} has no such setting"
            raise ValueError(message)
        if self.is_remote and not self.base_url:
            message = f"base_url: a model with backend = {self.backend!r} needs one"
            raise ValueError(message)
        if self.token is not None and self.token_file is not None:
            message = "token_file: token is set too, and one of them is enough"
            raise ValueError(message)
        return self


class RemoteConfig(BaseModel):
    """Settings that the requests to all remote models have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    proxy: SecretStr | None = None
    """The proxy through which remote models are reached, as `http://user:password@host:port`; unset for none. The
    environment's proxies are not used."""
    ca_file: Path | None = None
    """A file with the certificates of the authorities that may vouch for a remote, instead of the usual ones."""


def default_model(models: Mapping[str, ModelConfig], kind: Kind) -> str | None:
    """The name of the model for tasks of this kind that name none: the default, or the only one."""
    names = [name for name, model in models.items() if kind in model.serves]
    marked = [name for name in names if models[name].is_default(kind)]
    candidates = marked or names
    return candidates[0] if len(candidates) == 1 else None


def _is_plain_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        strange = parts.username or parts.password or parts.query or parts.fragment or parts.port == 0
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not strange and url.isprintable()
