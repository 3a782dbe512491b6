"""The sections of the settings file: one class per table, all but those of models."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from legit_embedding.wire.reserved import is_reserved
from legit_embedding.wire.task import MAX_METADATA_BYTES

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamConfig(_Section):
    """Names and limits of the Redis streams (CONTRACT section 3); every name is a literal, whole key."""

    tasks: str = "embedding_tasks"
    """The shared task stream, which every worker reads."""
    group: str = "embedding_workers"
    """The consumer group of the task stream. It is made at the beginning of the stream where it is missing."""
    results: str = "embedding_results"
    """The result stream of tasks that neither name one nor belong to an app with a route."""
    dead_letter: str = "embedding_tasks:dead"
    """Where tasks go that cannot be delivered, with the reason."""
    routes: dict[str, str] = Field(default_factory=dict)
    """The result stream of each `app`, for tasks that name no `reply_to`."""
    reply_to_allow: tuple[str, ...] = ("embedding_results*",)
    """Glob patterns: a `reply_to` or a route that matches none of them is refused."""
    read_count: PositiveInt = 64
    """The most entries that one XREADGROUP asks for."""
    block_ms: PositiveInt = 2000
    """The time that one read waits for new entries, in milliseconds; at most half of the socket timeout is used."""
    claim_idle_ms: PositiveInt = 60_000
    """After how many milliseconds without a sign of life an entry is taken over from its worker."""
    max_deliveries: PositiveInt = 5
    """The number of times a task is tried before it goes to the dead letter."""
    result_maxlen: NonNegativeInt = 1_000_000
    """The number of entries that a result stream holds, approximately; 0 for no limit."""
    overflow: Literal["wait", "trim"] = "wait"
    """The fate, at `result_maxlen`, of entries that a consumer group has not acknowledged: with `wait` they stay and
    the worker stops reading; with `trim` the oldest are dropped."""
    max_metadata_bytes: PositiveInt = MAX_METADATA_BYTES
    """The largest `metadata` of a task, in bytes of JSON; more is answered with `too_large`."""
    delete_on_ack: bool = True
    """True if a task entry is deleted in the step that acknowledges it, so that the stream does not grow."""
    dedupe_s: PositiveInt = 3600
    """For how many seconds the result of a Celery task is remembered, so that a redelivery is not answered again."""
    consume: bool = True
    """True if this worker reads the task stream."""

    @property
    def trim_maxlen(self) -> int:
        """The length to which each write may trim its result stream; 0 where no write may."""
        return self.result_maxlen if self.overflow == "trim" else 0

    def allows(self, stream: str) -> bool:
        """True if results may be written to this key."""
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
    """Limits of downloads for an ``image_url``."""

    schemes: tuple[Literal["http", "https"], ...] = ("http", "https")
    """The schemes that an `image_url` may have."""
    allow_private: tuple[str, ...] = ()
    """Hosts, or host:port, that may resolve to private, loopback or link-local addresses; all others may not."""
    max_bytes: PositiveInt = 32 * 1024 * 1024
    """The largest image file, in bytes, from whichever source."""
    max_pixels: PositiveInt = 64_000_000
    """The most pixels that an image may have, width times height."""
    max_redirects: NonNegativeInt = 3
    """The number of redirects that a download follows."""
    timeout_s: PositiveFloat = 10.0
    """The longest that a download may take, in seconds, redirects included."""
    decode_s: PositiveFloat = 5.0
    """The longest that an image may take to decode, in seconds, in a format whose decoder can be slow."""


class PrepConfig(_Section):
    """Preparation of items on the CPU."""

    processes: Annotated[int, Field(ge=0, le=512)] = 0
    """The processes that decode images, and tokenise texts where Python itself does that; 0 to do it in the prep
    threads. Worth it where prep is the limit and there are more cores than one Python interpreter can keep busy."""


class EngineConfig(_Section):
    """Use of the device."""

    memory_fraction: Annotated[float, Field(gt=0, le=0.95)] = 0.8
    """The part of the device's free memory that batches may use, measured once the models are loaded."""
    max_in_flight: PositiveInt = 4096
    """The most tasks that the worker holds, from all sources together. For what is read from the stream, answers that
    Redis has not confirmed don't count (8,192 at most), and neither does what a round trip to a distant server holds:
    as many tasks again, but 4,096 at most."""
    hold_s: PositiveFloat = 3.0
    """The work that each source, the task stream and Celery's queues, may have waiting here, in seconds of the
    throughput while there was work; two full batches of each model may always wait, and never more than
    `max_in_flight`."""
    compile: Literal["auto"] | bool = "auto"
    """True if models are compiled with `torch.compile`: with `auto` on a GPU, for image models where it turns out to be
    quicker; with true for every model."""
    compile_cache: Path | None = None
    """Where compiled graphs are kept for the next start; unset for where torch keeps them, which may not last."""
    share: bool = False
    """True if `device = "auto"` may settle on a GPU where another worker of this host already computes."""
    cudnn_attention: bool = False
    """True if attention may run on cuDNN, which plans anew for every shape."""
    probe_s: NonNegativeFloat = 60.0
    """After how many seconds without an embedded item a model embeds a probe, so that health is up to date; 0 for
    never. A probe is a short text or a grey image; no task is counted."""
    stall_exit_s: PositiveFloat | None = None
    """After how many seconds without progress on the device the process ends; unset for never."""


class HttpConfig(_Section):
    """The optional HTTP front door; off unless a port is set."""

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """The port to listen on; 0 for none."""
    embed: bool = True
    """True if `/embed` and `/v1` are served; with false only health, metrics and the page's figures, which may be open
    to other hosts without a token."""
    token: str = Field("", repr=False)
    """The bearer token that requests need, except those for `/health`, `/live` and the page's files; empty for none.
    Without a token only a loopback address can be listened on."""
    tokens: tuple[str, ...] = Field((), repr=False)
    """Further tokens, each as good as `token`."""
    token_file: Path | None = None
    """A file with further tokens, one per line, read at the start."""
    open_metrics: bool = False
    """True if `/metrics` is answered without a token."""
    max_body_bytes: PositiveInt = 32 * 1024 * 1024
    """The largest body of a request, in bytes. All requests in progress may hold eight times as much together."""
    max_items: PositiveInt = 2048
    """The most texts and images that one request may carry."""
    max_text_chars: PositiveInt = 1_000_000
    """The greatest length of one text, in characters, or in token ids."""
    max_in_flight: PositiveInt = 3072
    """The most texts and images in progress, of all requests together; beyond that the answer is 503. They count
    in `engine.max_in_flight` too, and what is left of that is for queues and streams."""
    timeout_s: PositiveFloat = 60.0
    """The longest that a request may take, in seconds, from its headers to its vectors."""
    max_connections: PositiveInt = 4096
    """The most connections that may be open; beyond that the one that has waited longest for its client is closed, and
    if all are being served the answer is 503. The limit on open files counts too."""
    cors_origins: tuple[str, ...] = ()
    """The origins whose pages may send requests from a browser; empty for none."""

    @model_validator(mode="after")
    def _takes_its_largest_request(self) -> HttpConfig:
        if self.max_items > self.max_in_flight:
            message = f"max_items: {self.max_items} is more than max_in_flight: {self.max_in_flight}"
            raise ValueError(message)
        return self


class TelemetryConfig(_Section):
    """Publication of the worker's state and figures."""

    interval_s: PositiveFloat = 5.0
    """The interval at which the worker publishes its state in Redis, in seconds."""
    legacy_keys: bool = True
    """True if the old fleet's keys per role are published too."""
    json_logs: bool = False
    """True if log lines are JSON objects."""
    traces: bool = False
    """True if OpenTelemetry traces are exported; needs the extra `otel`."""


class TaskNames(_Section):
    """The Celery names under which the entrypoints are registered."""

    prepare_image: str = "legit_embedding.preparation.prepare_image"
    """Embeds one image."""
    prepare_text: str = "legit_embedding.preparation.prepare_text"
    """Embeds one text."""
    prepare_batch: str = "legit_embedding.preparation.prepare_batch"
    """Embeds a list of images and texts."""
    embed_image: str = "legit_embedding.embedding.embed_image"
    """Embeds an image that a prep worker has prepared."""
    embed_text: str = "legit_embedding.embedding.embed_text"
    """Embeds a text that a prep worker has prepared."""
