"""The bodies of requests, validated, and the items that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from legit_embedding.errors import plain
from legit_embedding.models.config import Kind  # noqa: TC001 - a dataclass field
from legit_embedding.sources.http.problems import HttpError
from legit_embedding.wire.task import Name, Text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_INPUT = "input: expected a string, a list of strings, a list of token ids, or a list of lists of token ids"
_DATA, _BASE64 = "data:", ";base64"


@dataclass(frozen=True, slots=True)
class Item:
    """One image or one text of a request."""

    param: str
    """The field that it stands in, for messages."""
    kind: Kind
    fields: dict[str, object]
    """Its content, as fields of a task object, or as ``token_ids``."""
    length: int = 0
    """Of a text, in characters or token ids."""


def _whole(value: float) -> int:
    if not value.is_integer():
        raise PydanticCustomError("token_id", "expected an integer")
    return int(value)


_IDS: dict[str, Any] = {"ge": 0, "lt": 2**31}
TokenId = Annotated[
    Annotated[StrictInt, Field(**_IDS)] | Annotated[StrictFloat, Field(**_IDS), AfterValidator(_whole)],
    Field(union_mode="left_to_right"),
    WithJsonSchema({"type": "integer", "minimum": _IDS["ge"], "exclusiveMaximum": _IDS["lt"]}),
]
"""No tokenizer has ids beyond 32 bits; the model's own bound is checked when the item is prepared. To JSON Schema 5.0
is an integer too."""


class _Body(BaseModel):
    # Unknown fields are ignored, as those of a task object are: clients send fields for other servers.
    model_config = ConfigDict(extra="ignore", frozen=True)

    model: Name | None = Field(None, description="A model of the registry; by default the kind's default model.")
    prompt_name: Name | None = Field(None, description="One of the model's prompts, for texts.")
    dimensions: Annotated[StrictInt, Field(gt=0)] | None = Field(
        None, description="The length of the vectors, where the model's settings allow it."
    )


class EmbedBody(_Body):
    """The body of ``POST /embed``."""

    texts: list[Text] = Field(default_factory=list, description="Texts; a blank one is embedded too.")
    images: list[Text] = Field(default_factory=list, description="Images, as data URLs or as URLs to download.")

    def items(self) -> list[Item]:
        """The items, texts first."""
        if not self.model_fields_set & {"texts", "images"}:
            raise _invalid("texts", "expected a list of strings")
        texts = [_text(f"texts[{n}]", text) for n, text in enumerate(self.texts)]
        return texts + [Item(f"images[{n}]", "image", _image(f"images[{n}]", url)) for n, url in enumerate(self.images)]


class ImageUrl(BaseModel):
    """Where the image of a part is."""

    url: Text


class Part(BaseModel):
    """One part of a message."""

    type: Literal["text", "image_url"]
    text: Text | None = None
    image_url: ImageUrl | None = None


class Message(BaseModel):
    """A message in the shape in which vLLM takes images."""

    role: StrictStr = "user"
    content: Text | list[Part]


class EmbeddingsBody(_Body):
    """The body of ``POST /v1/embeddings``."""

    input: Text | list[Text] | list[TokenId] | list[list[TokenId]] | None = Field(
        None, description="One or more texts, or token ids of the model; with modality image one or more images."
    )
    messages: list[Message] | None = Field(None, description="Instead of input: one image, or one text.")
    modality: Literal["text", "image"] = Field("text", description="The kind of the strings of input.")
    encoding_format: Literal["float", "base64"] = Field("float", description="base64 of little-endian float32.")

    def items(self) -> list[Item]:
        """The items, in the order of the answer."""
        if (self.input is None) == (self.messages is None):
            raise _invalid("input", "expected either input or messages")
        if self.messages is not None:
            return [_of_messages(self.messages)]
        if self.modality == "image" and self.prompt_name is not None:
            raise _invalid("prompt_name", "a prompt is for a text, not for an image")
        if isinstance(self.input, str) or (self.input and isinstance(self.input[0], int)):
            return [self._item("input", cast("str | list[int]", self.input))]
        inputs = cast("list[str | list[int]]", self.input)
        return [self._item(f"input[{n}]", each) for n, each in enumerate(inputs)]

    def _item(self, param: str, content: str | list[int]) -> Item:
        if isinstance(content, str):
            if self.modality == "image":
                return Item(param, "image", _image(param, content))
            return _text(param, content)
        if self.modality == "image":
            raise _invalid(param, "an image is a data URL or a URL, not token ids")
        if self.prompt_name is not None:
            raise _invalid("prompt_name", "a prompt is for a text, not for token ids")
        return Item(param, "text", {"token_ids": content}, len(content))


BodyT = TypeVar("BodyT", bound=_Body)


def read(model: type[BodyT], body: bytes) -> BodyT:
    """Validate a body.

    Raises:
        HttpError: 400 if it is not JSON, 422 with the field that does not fit.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            raise HttpError(HTTPStatus.BAD_REQUEST, "bad_request", first["msg"]) from None
        raise _misfit(first) from None


def _misfit(error: ErrorDetails) -> HttpError:
    where = [str(part) for part in error["loc"]]
    if where[:1] == ["input"]:
        return HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_task", _INPUT, "input")
    name = "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in where).removeprefix(".") or "body"
    return _invalid(name, plain(error).replace("valid array", "valid list"))


def _of_messages(messages: list[Message]) -> Item:
    parts: list[tuple[Kind, str]] = []
    for message in messages:
        if isinstance(message.content, str):
            parts.append(("text", message.content))
            continue
        for part in message.content:
            if part.type == "text" and part.text is not None:
                parts.append(("text", part.text))
            elif part.type == "image_url" and part.image_url is not None:
                parts.append(("image", part.image_url.url))
            else:
                raise _invalid("messages", f"a part of type {part.type} has no {part.type}")
    if len(messages) != 1 or len(parts) != 1:
        got = f"{len(messages)} messages with {len(parts)} parts"
        raise _invalid("messages", f"expected one message with one text or one image, got {got}")
    kind, content = parts[0]
    return _text("messages", content) if kind == "text" else Item("messages", kind, _image("messages", content))


def _text(param: str, text: str) -> Item:
    return Item(param, "text", {"text": text}, len(text))


def _image(param: str, url: str) -> dict[str, object]:
    if url[: len(_DATA)].lower() != _DATA:
        return {"image_url": url}
    head, comma, data = url.partition(",")
    if not comma or not head.lower().endswith(_BASE64):
        raise _invalid(param, "expected a data URL with base64: data:image/png;base64,...")
    return {"image_b64": data}


def _invalid(param: str, detail: str) -> HttpError:
    return HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_task", f"{param}: {detail}", param)
