"""The objects on the wire: tasks that producers send, and results that consumers read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from legit_embedding.errors import TaskError
from legit_embedding.models.config import Kind
from legit_embedding.wire import json_text

if TYPE_CHECKING:
    from typing import Self

MAX_METADATA_BYTES = 1024 * 1024
IMAGE_FIELDS = ("image_url", "image_b64", "image_path")
MAX_NAME = 512
LATEST_DEADLINE = 253_402_300_799_999
"""The end of the year 9999, in Unix milliseconds."""


def _decimal(value: object) -> object:
    """Convert an integer to its decimal text, since PHP sends numeric ids as numbers; return other values unchanged."""
    return str(value) if type(value) is int and abs(value) < 10**MAX_NAME else value


def _is_metadata(value: object) -> bool:
    return isinstance(value, dict) or value == []  # PHP encodes an empty map as a list


def _metadata(value: object) -> object:
    if value is None or _is_metadata(value):
        return value
    raise PydanticCustomError("metadata", "Input should be a JSON object")


Name = Annotated[StrictStr, Field(min_length=1, max_length=MAX_NAME)]
TaskId = Annotated[Name, BeforeValidator(_decimal)]
Text = Annotated[StrictStr, Field(min_length=0)]
"""Valid Unicode: without a constraint pydantic accepts unpaired surrogates, which no tokenizer does."""


class _Wire(BaseModel):
    # Unknown fields are ignored so that old workers can process tasks of new producers.
    model_config = ConfigDict(extra="ignore", frozen=True)

    task_id: TaskId
    model: Name | None = None
    reply_to: Name | None = None
    app: Name | None = None
    metadata: Annotated[Any, BeforeValidator(_metadata)] = None
    deadline: Annotated[StrictInt, Field(ge=0, le=LATEST_DEADLINE)] | None = None
    """Unix time in milliseconds after which the task is answered with ``expired``."""
    return_embedding: StrictBool = False
    dimensions: Annotated[StrictInt, Field(gt=0)] | None = None
    """The length of the vector, if it differs from the model's settings."""

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Validate an object sent by a producer.

        Raises:
            TaskError: ``invalid_task``, naming the invalid field.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "task"
            raise TaskError("invalid_task", f"{where}: {first['msg']}") from None


class TaskObject(_Wire):
    """One image or one text to embed (CONTRACT section 2)."""

    kind: Kind | None = None
    image_url: Text | None = None
    image_b64: Text | None = None
    image_path: Text | None = None
    text: Text | None = None
    prompt_name: Name | None = None

    @model_validator(mode="after")
    def _check_content(self) -> TaskObject:
        images = [name for name in IMAGE_FIELDS if getattr(self, name) is not None]
        given = [*images, *(["text"] if self.text is not None else [])]
        if len(given) != 1:
            expected = f"one of {', '.join(IMAGE_FIELDS)} or text"
            message = f"expected {expected}, got {' and '.join(given) or 'none of them'}"
            raise ValueError(message)
        follows: Kind = "image" if images else "text"
        if self.kind not in {None, follows}:
            message = f"kind is {self.kind!r}, but the task carries {given[0]}"
            raise ValueError(message)
        if self.prompt_name is not None and self.text is None:
            message = "prompt_name: a prompt is for a text, and the task carries an image"
            raise ValueError(message)
        return self

    @property
    def content_kind(self) -> Kind:
        """The kind of task that the content implies."""
        return "text" if self.text is not None else "image"


class HandOff(_Wire):
    """A tensor that an old prep worker left in the hand-off directory (CONTRACT section 1)."""

    model: Name
    path: Name
    truncated: StrictBool = False
    """Set by prep workers of this project; older ones do not send it."""
    repaired: StrictBool = False
    """Set by prep workers of this project; older ones do not send it."""


@dataclass(frozen=True, slots=True)
class Address:
    """The destination of an answer and the fields it echoes, as far as the task is legible.

    Invalid tasks are answered too, so this is read from the raw object, field by field.
    """

    task_id: str
    reply_to: str | None = None
    app: str | None = None
    metadata: str | None = None
    """The JSON text to echo."""
    fault: TaskError | None = field(default=None, compare=False)
    """The reason the task's metadata is not echoed."""

    @classmethod
    def read(cls, raw: object, fallback_id: str, max_metadata_bytes: int = MAX_METADATA_BYTES) -> Address:
        """Read the address fields that have the right type.

        Args:
            raw: the object that the producer sent.
            fallback_id: used if the task id is missing.
            max_metadata_bytes: the size limit of echoed metadata, in bytes.
        """
        fields = raw if isinstance(raw, dict) else {}

        def text(name: str) -> str | None:
            value = _decimal(fields.get(name)) if name == "task_id" else fields.get(name)
            return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME else None

        metadata, fault = None, None
        if _is_metadata(fields.get("metadata")):
            try:
                metadata = _echo(fields["metadata"], max_metadata_bytes)
            except TaskError as error:
                fault = error
        return cls(text("task_id") or fallback_id, text("reply_to"), text("app"), metadata, fault)


def _echo(metadata: object, most: int) -> str:
    """Encode metadata for the answer.

    Raises:
        TaskError: ``invalid_task`` or ``too_large``.
    """
    try:
        text = json_text.dumps(metadata)
    except ValueError as error:
        raise TaskError("invalid_task", f"metadata: they cannot be written back as JSON: {error}") from None
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size > most:
        raise TaskError("too_large", f"metadata: {size} bytes; streams.max_metadata_bytes allows {most}")
    return text


@dataclass(frozen=True, slots=True)
class Origin:
    """The message or entry that carried a task, which is acknowledged when the task is answered."""

    kind: Literal["celery", "stream", "local"]
    id: str
    """The Celery id or the stream entry id; the result's ``source``."""


@dataclass(frozen=True, slots=True)
class Timings:
    """The time a task spent in each stage, in milliseconds."""

    prep_ms: int = 0
    queue_ms: int = 0
    compute_ms: int = 0


@dataclass(frozen=True, slots=True)
class Embedded:
    """The outcome of a successful task: its embedding."""

    kind: Kind
    model: str
    dim: int
    encoding: str
    embedding: str
    truncated: bool = False
    repaired: bool = False
    revision: str = ""
    """The model's revision, if it is pinned or known."""
    windows: int = 0
    """The number of windows of a long text that were averaged; 0 if there were none."""


@dataclass(frozen=True, slots=True)
class Result:
    """One answer, ready to be written to a result stream."""

    address: Address
    origin: Origin
    outcome: Embedded | TaskError
    timings: Timings = field(default_factory=Timings)

    def fields(self, worker: str) -> dict[str, str]:
        """The result entry (CONTRACT section 3); every value is a string."""
        entry = {"task_id": self.address.task_id, "status": "ok"}
        if isinstance(self.outcome, TaskError):
            entry |= {"status": "error", "error": self.outcome.code, "detail": self.outcome.detail}
        else:
            good = self.outcome
            entry |= {"kind": good.kind, "model": good.model, "dim": str(good.dim)}
            entry |= {"encoding": good.encoding, "embedding": good.embedding}
            if good.truncated:
                entry["truncated"] = "1"
            if good.repaired:
                entry["repaired"] = "1"
            if good.revision:
                entry["revision"] = good.revision
            if good.windows:
                entry["windows"] = str(good.windows)
        if self.address.app is not None:
            entry["app"] = self.address.app
        if self.address.metadata is not None:
            entry["metadata"] = self.address.metadata
        entry["source"] = self.origin.id
        entry["worker"] = worker
        entry["prep_ms"] = str(self.timings.prep_ms)
        entry["queue_ms"] = str(self.timings.queue_ms)
        entry["compute_ms"] = str(self.timings.compute_ms)
        return entry


@dataclass(frozen=True, slots=True)
class Written:
    """A result that Redis has confirmed."""

    result: Result
    stream: str
    entry_id: str
    """The entry's id; empty if an earlier delivery of the same task has written it and the id is unknown."""

    def receipt(self, *, with_embedding: bool = False) -> dict[str, Any]:
        """The return value of the Celery task (CONTRACT section 1)."""
        outcome = self.result.outcome
        receipt: dict[str, Any] = {"task_id": self.result.address.task_id}
        if isinstance(outcome, TaskError):
            receipt |= {"status": "error", "error": outcome.code, "detail": outcome.detail}
        else:
            receipt |= {"status": "ok", "model": outcome.model, "dim": outcome.dim}
            if with_embedding:
                receipt |= {"encoding": outcome.encoding, "embedding": outcome.embedding}
        return receipt | {"stream": self.stream, "entry_id": self.entry_id}
