"""Settings: one TOML file, overridden from the environment.

Every key of CONTRACT section 8 is here with its default. The file is ``legit.toml`` in the working directory, or the
path in ``LEGIT_CONFIG``; any key can be overridden by ``LEGIT_`` and the path joined by ``__``.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from legit_embedding.errors import ConfigError
from legit_embedding.models.config import KINDS, Kind, ModelConfig, default_model
from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.wire.reserved import is_reserved
from legit_embedding.wire.task import MAX_METADATA_BYTES

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = [
    "EngineConfig",
    "FetchConfig",
    "HttpConfig",
    "Kind",
    "ModelConfig",
    "Settings",
    "StreamConfig",
    "TaskNames",
    "TelemetryConfig",
    "config_file",
    "default_model",
    "get_settings",
    "load_settings",
]

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]

ENV_PREFIX = "LEGIT_"
CONFIG_VARIABLE = "LEGIT_CONFIG"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamConfig(_Section):
    """Names and limits of the Redis streams (CONTRACT section 3); every name is a literal, whole key."""

    tasks: str = "embedding_tasks"
    group: str = "embedding_workers"
    results: str = "embedding_results"
    dead_letter: str = "embedding_tasks:dead"
    routes: dict[str, str] = Field(default_factory=dict)
    reply_to_allow: tuple[str, ...] = ("embedding_results*",)
    read_count: PositiveInt = 64
    block_ms: PositiveInt = 2000
    claim_idle_ms: PositiveInt = 60_000
    max_deliveries: PositiveInt = 5
    result_maxlen: NonNegativeInt = 1_000_000
    overflow: Literal["wait", "trim"] = "wait"
    """What happens at `result_maxlen` to entries that a consumer group has not acknowledged."""
    max_metadata_bytes: PositiveInt = MAX_METADATA_BYTES
    delete_on_ack: bool = True
    dedupe_s: PositiveInt = 3600
    consume: bool = True

    @property
    def trim_maxlen(self) -> int:
        """The length to which each write may trim its result stream; 0 where no write may."""
        return self.result_maxlen if self.overflow == "trim" else 0

    def allows(self, stream: str) -> bool:
        """Whether results may be written to this key."""
        if stream in {self.tasks, self.dead_letter}:
            return False  # an answer in the task stream would be read as a task, and answered, for ever
        if is_reserved(stream, but={self.results, *self.routes.values()}):
            return False
        return stream.isprintable() and any(fnmatchcase(stream, pattern) for pattern in self.reply_to_allow)

    @model_validator(mode="after")
    def _check_targets(self) -> StreamConfig:
        for app, stream in {"results": self.results, **self.routes}.items():
            if stream in {self.tasks, self.dead_letter} or is_reserved(stream, but={stream}):
                message = f"the result stream {stream!r} of {app!r} is a key that the worker or Celery uses"
                raise ValueError(message)
            if not self.allows(stream):
                message = f"the result stream {stream!r} of {app!r} is outside streams.reply_to_allow"
                raise ValueError(message)
        return self


class FetchConfig(_Section):
    """What may be downloaded for an ``image_url``."""

    schemes: tuple[Literal["http", "https"], ...] = ("http", "https")
    allow_private: tuple[str, ...] = ()
    max_bytes: PositiveInt = 32 * 1024 * 1024
    max_pixels: PositiveInt = 64_000_000
    max_redirects: NonNegativeInt = 3
    timeout_s: PositiveFloat = 10.0
    decode_s: PositiveFloat = 5.0
    """How long an image may take to decode in a format whose decoder can be slow."""


class EngineConfig(_Section):
    """How the device is used."""

    memory_fraction: Annotated[float, Field(gt=0, le=0.95)] = 0.8
    max_in_flight: PositiveInt = 4096
    compile: Literal["auto"] | bool = "auto"
    """``auto``: on a GPU, image models are compiled where that turns out to be quicker; true: every model."""
    compile_cache: Path | None = None
    """Where the compiled graphs are kept for the next start; None: where torch keeps them, which may not last."""
    share: bool = False
    """Whether ``device = "auto"`` may settle on a GPU where another worker of this host computes already."""
    cudnn_attention: bool = False
    """Whether attention may run on cuDNN, which plans anew for every shape."""
    stall_exit_s: PositiveFloat | None = None
    """The process ends when nothing has moved on the device for so long; None: that only shows in its health."""


class HttpConfig(_Section):
    """The optional HTTP front door; off unless a port is set."""

    host: str = "127.0.0.1"
    port: NonNegativeInt = 0
    token: str = ""


class TelemetryConfig(_Section):
    """What is published under the worker's identity."""

    interval_s: PositiveFloat = 5.0
    legacy_keys: bool = True
    json_logs: bool = False
    traces: bool = False


class TaskNames(_Section):
    """The Celery names under which the entrypoints are registered."""

    prepare_image: str = "legit_embedding.preparation.prepare_image"
    prepare_text: str = "legit_embedding.preparation.prepare_text"
    prepare_batch: str = "legit_embedding.preparation.prepare_batch"
    embed_image: str = "legit_embedding.embedding.embed_image"
    embed_text: str = "legit_embedding.embedding.embed_text"


def _default_models() -> dict[str, ModelConfig]:
    return {
        "eva02-l-14": ModelConfig(
            kind="image", backend="open_clip", name="EVA02-L-14", pretrained="merged2b_s4b_b131k", default=True
        ),
        "minilm": ModelConfig(
            kind="text", backend="transformers", name="sentence-transformers/all-MiniLM-L6-v2", default=True
        ),
    }


class Settings(BaseSettings):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    redis_url: str = "redis://localhost:6379/0"
    worker_id: str = ""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    task_names: TaskNames = TaskNames()
    streams: StreamConfig = StreamConfig()
    models: dict[str, ModelConfig] = Field(default_factory=_default_models)
    fetch: FetchConfig = FetchConfig()
    image_roots: tuple[Path, ...] = ()
    handoff_dir: Path = Path("/dev/shm/legit_embedding")  # noqa: S108 - the contract's hand-off directory
    engine: EngineConfig = EngineConfig()
    http: HttpConfig = HttpConfig()
    telemetry: TelemetryConfig = TelemetryConfig()

    @property
    def redis(self) -> RedisAddress:
        """Where `redis_url` leads."""
        return RedisAddress.of(self.redis_url)

    @field_validator("redis_url")
    @classmethod
    def _can_be_served(cls, url: str) -> str:
        RedisAddress.of(url)
        return url

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
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the hook's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file over defaults."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())


def config_file() -> Path | None:
    """The settings file in use, or None.

    Raises:
        ConfigError: ``LEGIT_CONFIG`` names a file that does not exist.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file():
            message = f"{CONFIG_VARIABLE}: there is no file {named!r}"
            raise ConfigError(message)
        return path
    path = Path("legit.toml")
    return path if path.is_file() else None


def load_settings() -> Settings:
    """Read the settings from the file and the environment.

    Raises:
        ConfigError: one line that names each unknown key or bad value.
    """
    _refuse_unknown_variables()
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigError("; ".join(map(_problem, error.errors()))) from error
    except (SettingsError, ValueError) as error:
        raise ConfigError(str(error).replace("\n", " ")) from error


def _problem(error: ErrorDetails) -> str:
    where = ".".join(map(str, error["loc"])) or "settings"
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such setting"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


@cache
def get_settings() -> Settings:
    """The process's settings, read once."""
    return load_settings()


def _refuse_unknown_variables() -> None:
    known = set(Settings.model_fields)
    for variable in os.environ:
        if not variable.startswith(ENV_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        key = variable.removeprefix(ENV_PREFIX).lower().split("__")[0]
        if key not in known:
            message = f"{variable}: there is no setting {key!r}"
            raise ConfigError(message)
