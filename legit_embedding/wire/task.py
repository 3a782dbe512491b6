"""The objects that a producer sends: task objects, hand-offs, and the address of the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

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

from legit_embedding.errors import TaskError, misfit
from legit_embedding.models.config import Encoding, Kind
from legit_embedding.wire import json_text

if TYPE_CHECKING:
    from typing import Self

MAX_METADATA_BYTES = 1024 * 1024
IMAGE_FIELDS = ("image_url", "image_b64", "image_path")
CONTENT_FIELDS = (*IMAGE_FIELDS, "text")
MAX_NAME = 512
LATEST_DEADLINE = 253_402_300_799_999
"""The end of the year 9999, in Unix milliseconds."""


def _decimal(value: object) -> object:
    """An integer as its decimal text, since PHP sends numeric ids as numbers; anything else as it is."""
    return str(value) if type(value) is int and abs(value) < 10**MAX_NAME else value


def _is_metadata(value: object) -> bool:
    return isinstance(value, dict) or value == []  # PHP writes an empty map as a list


def _metadata(value: object) -> object:
    if value is None or _is_metadata(value):
        return value
    raise PydanticCustomError("metadata", "Input should be a JSON object")


Priority = Literal["interactive", "bulk"]
Name = Annotated[StrictStr, Field(min_length=1, max_length=MAX_NAME)]
TaskId = Annotated[Name, BeforeValidator(_decimal)]
Text = Annotated[StrictStr, Field(min_length=0)]
"""Unicode: without any constraint pydantic would let halves of surrogate pairs through, which no tokenizer takes."""


class _Wire(BaseModel):
    # Unknown fields are ignored: old workers must survive new producers.
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
    """The length of the vector, if not that of the model's settings."""
    encoding: Encoding | None = None
    """The form of the vector in the result, if not that of the model's settings."""
    priority: Priority | None = None
    """Interactive items go before bulk items of the same model; without it a task is bulk."""

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Validate what a producer sent.

        Raises:
            TaskError: ``invalid_task``, naming the field that does not fit.
        """
        try:
            return cast("Self", cls.__pydantic_validator__.validate_python(raw))  # `model_validate` without its checks
        except ValidationError as error:
            where, why = misfit(error)
            raise TaskError("invalid_task", f"{where or 'task'}: {why}") from None

    def address(self, max_metadata_bytes: int = MAX_METADATA_BYTES) -> Address:
        """The address of the answer, as `Address.read` would find it, of a task that is known to fit."""
        echo, fault = (None, None) if self.metadata is None else _echo(self.metadata, max_metadata_bytes)
        return Address(self.task_id, self.reply_to, self.app, echo, fault)


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
        contents = (self.image_url, self.image_b64, self.image_path, self.text)
        if contents.count(None) != len(contents) - 1:
            given = " and ".join(
                name for name, value in zip(CONTENT_FIELDS, contents, strict=True) if value is not None
            )
            message = f"expected one of {', '.join(IMAGE_FIELDS)} or text, got {given or 'none of them'}"
            raise ValueError(message)
        if self.kind is not None and self.kind != self.content_kind:
            given = next(name for name, value in zip(CONTENT_FIELDS, contents, strict=True) if value is not None)
            message = f"kind is {self.kind!r}, but the task carries {given}"
            raise ValueError(message)
        if self.prompt_name is not None and self.text is None:
            message = "prompt_name: a prompt is for a text, and the task carries an image"
            raise ValueError(message)
        return self

    @property
    def content_kind(self) -> Kind:
        """The kind that the content implies."""
        return "text" if self.text is not None else "image"


class HandOff(_Wire):
    """A tensor that an old prep worker left in the hand-off directory (CONTRACT section 1)."""

    model: Name
    path: Name
    truncated: StrictBool = False
    """Set by a prep worker of this project; old ones did not say."""
    repaired: StrictBool = False
    """Likewise."""


class TokenIds(_Wire):
    """One text as the model's own token ids, special tokens included; only HTTP takes them."""

    token_ids: Annotated[tuple[StrictInt, ...], Field(min_length=1)]


@dataclass(slots=True)
class Address:
    """Where an answer goes and what it echoes, as far as a task says it legibly.

    A task that does not fit is answered too, so this is read from the raw object, field by field.
    Not frozen, because two are made for every task: see `legit_embedding.wire.result`.
    """

    task_id: str
    reply_to: str | None = None
    app: str | None = None
    metadata: str | None = None
    """The JSON text to echo."""
    fault: TaskError | None = field(default=None, compare=False)
    """Why the metadata that were sent are not echoed."""

    @classmethod
    def read(cls, raw: object, fallback_id: str, max_metadata_bytes: int = MAX_METADATA_BYTES) -> Address:
        """Read the address fields that are of the right type.

        Args:
            raw: what the producer sent.
            fallback_id: stands in for a missing task id.
            max_metadata_bytes: the most metadata that are echoed.
        """
        fields = raw if isinstance(raw, dict) else {}
        metadata, fault = None, None
        if _is_metadata(fields.get("metadata")):
            metadata, fault = _echo(fields["metadata"], max_metadata_bytes)
        task_id = _name(_decimal(fields.get("task_id"))) or fallback_id
        return cls(task_id, _name(fields.get("reply_to")), _name(fields.get("app")), metadata, fault)


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME else None


def _echo(metadata: object, most: int) -> tuple[str | None, TaskError | None]:
    """Metadata as they are written back, or the reason why they are not: ``invalid_task`` or ``too_large``."""
    try:
        text = json_text.dumps(metadata)
    except ValueError as error:
        return None, TaskError("invalid_task", f"metadata: they cannot be written back as JSON: {error}")
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size > most:
        return None, TaskError("too_large", f"metadata: {size} bytes; streams.max_metadata_bytes allows {most}")
    return text, None
