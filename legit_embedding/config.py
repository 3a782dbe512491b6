"""Settings: one TOML file, overridden from the environment.

``docs/reference/settings.md`` is made from these models, with each field's docstring: those here, in
``settings/sections.py`` and in ``models/config.py``. The file is ``legit.toml`` in the working directory, or the path
in ``LEGIT_CONFIG``; any key can be overridden by ``LEGIT_`` and the path joined by ``__``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from legit_embedding.errors import ConfigError
from legit_embedding.models.config import KINDS, Kind, ModelConfig, RemoteConfig, default_model
from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.redis_io.slots import hash_tag, share_a_slot
from legit_embedding.settings.file import config_file
from legit_embedding.settings.given import Given
from legit_embedding.settings.sections import (
    EngineConfig,
    FetchConfig,
    HttpConfig,
    PrepConfig,
    StreamConfig,
    TaskNames,
    TelemetryConfig,
)

__all__ = [
    "EngineConfig",
    "FetchConfig",
    "HttpConfig",
    "Kind",
    "ModelConfig",
    "PrepConfig",
    "RemoteConfig",
    "Settings",
    "StreamConfig",
    "TaskNames",
    "TelemetryConfig",
    "config_file",
    "default_model",
    "get_settings",
    "given",
    "load_settings",
]


def _default_models() -> dict[str, ModelConfig]:
    return {
        "eva02-l-14": ModelConfig(
            kind="image", backend="open_clip", name="EVA02-L-14", pretrained="merged2b_s4b_b131k", default=True
        ),
        "minilm": ModelConfig(
            kind="text", backend="transformers", name="sentence-transformers/all-MiniLM-L6-v2", default=True
        ),
    }


def _completed(built_in: dict[str, Any], model: Any) -> Any:  # noqa: ANN401 - whatever was set
    """A built-in model with the keys that are set over its own; one that names its backend is complete."""
    if not built_in or not isinstance(model, dict) or "backend" in model:
        return model
    is_of_kinds = {"kind", "kinds"} & model.keys()
    return {key: value for key, value in built_in.items() if not (is_of_kinds and key == "kind")} | model


class Settings(BaseSettings):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    redis_url: str = "redis://localhost:6379/0"
    """The Redis server of the streams; also Celery's broker and result backend unless Celery's settings name others,
    which they must where this is a cluster."""
    worker_id: str = ""
    """The worker's one identity; empty for its Celery node name."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """The number format of weights and activations; `auto` for the fastest that the device computes well in."""
    shutdown_s: Annotated[float, Field(ge=0)] = 8.0
    """The time in which a stopping worker finishes embedding tasks that it has taken, in seconds; in the last second
    the rest goes back to where it came from. Leave two seconds for the process to end before it is killed: Docker's
    default is 10 s, that of Kubernetes 30 s."""
    task_names: TaskNames = TaskNames()
    """The Celery names under which the entrypoints are registered."""
    streams: StreamConfig = StreamConfig()
    """Names and limits of the streams."""
    models: dict[str, ModelConfig] = Field(default_factory=_default_models)
    """The models by name; without any of your own `eva02-l-14` for images and `minilm` for texts, of which single keys
    may be changed."""
    remote: RemoteConfig = RemoteConfig()
    """Access to remote models."""
    fetch: FetchConfig = FetchConfig()
    """Limits of downloads and of decoding."""
    image_roots: tuple[Path, ...] = ()
    """The folders below which an `image_path` may point; empty to refuse all of them."""
    handoff_dir: Path = Path("/dev/shm/legit_embedding")  # noqa: S108 - the contract's hand-off directory
    """The folder through which prep-only workers hand over tensors."""
    prep: PrepConfig = PrepConfig()
    """Preparation of items on the CPU."""
    engine: EngineConfig = EngineConfig()
    """The use of the device."""
    http: HttpConfig = HttpConfig()
    """The HTTP port for embeddings, health and metrics."""
    telemetry: TelemetryConfig = TelemetryConfig()
    """Telemetry of the worker."""

    @property
    def redis(self) -> RedisAddress:
        """Where `redis_url` leads."""
        return RedisAddress.of(self.redis_url)

    @field_validator("redis_url")
    @classmethod
    def _can_be_served(cls, url: str) -> str:
        RedisAddress.of(url)
        return url

    @field_validator("streams")
    @classmethod
    def _in_one_slot(cls, streams: StreamConfig, info: ValidationInfo) -> StreamConfig:
        """An answer is written and its task settled in one step, which a cluster allows in one hash slot only."""
        url = info.data.get("redis_url")
        if url is None or not RedisAddress.of(url).is_cluster:
            return streams
        if not hash_tag(streams.tasks):
            message = f"in a cluster tasks needs a hash tag: {streams.tasks!r} could be {streams.tasks + ':{a}'!r}"
            raise ValueError(message)
        others = {"results": streams.results, "dead_letter": streams.dead_letter}
        for name, stream in (others | {f"routes.{app}": each for app, each in streams.routes.items()}).items():
            if not share_a_slot((streams.tasks, stream)):
                message = (
                    f"{name} {stream!r} and tasks {streams.tasks!r} are in different hash slots of the cluster: give "
                    f"it the tag {hash_tag(streams.tasks)} too"
                )
                raise ValueError(message)
        return streams

    @field_validator("models", mode="before")
    @classmethod
    def _complete_built_in(cls, models: Any) -> Any:  # noqa: ANN401 - whatever was set
        """Complete the built-in models of which only some keys are set; a model of the operator's own replaces all."""
        if not isinstance(models, dict):
            return models
        built_in = {name: model.model_dump(exclude_unset=True) for name, model in _default_models().items()}
        completed = {name: _completed(built_in.get(name, {}), model) for name, model in models.items()}
        if completed and all(name in built_in and model is not models[name] for name, model in completed.items()):
            return built_in | completed
        return completed

    @field_validator("models")
    @classmethod
    def _one_default_a_kind(cls, models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        for kind in KINDS:
            defaults = [name for name, model in models.items() if model.is_default(kind)]
            if len(defaults) > 1:
                message = f"more than one default {kind} model: {', '.join(defaults)}"
                raise ValueError(message)
        return models

    def default_model(self, kind: Kind) -> str | None:
        """As the function `default_model`, of these settings' models."""
        return default_model(self.models, kind)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the hook's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file over defaults, read by `legit_embedding.settings`."""
        return init_settings, InitSettingsSource(settings_cls, given().values)


def given() -> Given:
    """The settings from the file and the environment.

    Raises:
        ConfigError: the file cannot be read, or a variable names no setting.
    """
    return Given.read(Settings, {"models": {name: {} for name in _default_models()}})


def load_settings() -> Settings:
    """Read the settings from the file and the environment.

    Raises:
        ConfigError: one line that names each unknown key or bad value, and its variable or ``file:line``.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigError(given().problems(error)) from error


@cache
def get_settings() -> Settings:
    """The process's settings, read once."""
    return load_settings()
