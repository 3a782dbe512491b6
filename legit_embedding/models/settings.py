"""How a backend reads its part of the settings, and what it says about a part that does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from legit_embedding.errors import ConfigError

if TYPE_CHECKING:
    from legit_embedding.models.config import Kind, ModelConfig

_LONGEST_REASON = 600


class Options(BaseModel):
    """The keywords under ``models.NAME.options`` that a backend takes: none, unless it derives its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=Options)


def misconfigured(model: str, field: str, reason: object) -> ConfigError:
    """The error for one setting of one model, in one line."""
    line = " ".join(str(reason).split())
    if len(line) > _LONGEST_REASON:
        line = f"{line[:_LONGEST_REASON]}..."
    return ConfigError(f"models.{model}.{field}: {line}")


def read_options(model: str, config: ModelConfig, schema: type[OptionsT]) -> OptionsT:
    """The model's options, validated.

    Raises:
        ConfigError: an option that is unknown or does not fit.
    """
    try:
        return schema.model_validate(config.options)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(("options", *map(str, first["loc"])))
        raise misconfigured(model, where, first["msg"]) from None


def require_kind(model: str, config: ModelConfig, kind: Kind) -> None:
    """Refuse a model of the other kind.

    Raises:
        ConfigError: the model is not to serve this kind, or not this kind alone.
    """
    if config.serves != (kind,):
        reason = f"the backend {config.backend!r} makes {kind} embeddings, so this must be {kind!r}"
        raise misconfigured(model, "kind", reason)
