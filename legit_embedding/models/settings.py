"""Validation of backend-specific settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from legit_embedding.errors import ConfigError, misfit

if TYPE_CHECKING:
    from legit_embedding.models.config import Kind, ModelConfig

_LONGEST_REASON = 600


class Options(BaseModel):
    """Options of a backend under ``models.NAME.options``; none by default, backends subclass it to add their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=Options)


def misconfigured(model: str, field: str, reason: object) -> ConfigError:
    """Build the one-line error for a model's setting."""
    line = " ".join(str(reason).split())
    if len(line) > _LONGEST_REASON:
        line = f"{line[:_LONGEST_REASON]}..."
    return ConfigError(f"models.{model}.{field}: {line}")


def read_options(model: str, config: ModelConfig, schema: type[OptionsT]) -> OptionsT:
    """Validate and return the model's options.

    Raises:
        ConfigError: an option is unknown or invalid.
    """
    try:
        return schema.model_validate(config.options)
    except ValidationError as error:
        where, why = misfit(error)
        raise misconfigured(model, f"options.{where}".rstrip("."), why) from None


def require_kind(model: str, config: ModelConfig, kind: Kind) -> None:
    """Check that the model serves exactly this kind.

    Raises:
        ConfigError: the settings name another kind, or both.
    """
    if config.serves != (kind,):
        reason = f"the backend {config.backend!r} makes {kind} embeddings, so this must be {kind!r}"
        raise misconfigured(model, "kind", reason)
