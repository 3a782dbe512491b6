"""The three protocols that remote models speak: the body of a request, and where an answer holds its vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from legit_embedding.remote.answers import BrokenAnswerError, entry, of_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from legit_embedding.config import Kind, ModelConfig
    from legit_embedding.remote.recipe import RemoteItem


@dataclass(frozen=True, slots=True)
class Dialect:
    """One protocol."""

    path: str
    """Path of its route under ``base_url``."""
    items: Mapping[Kind, str]
    """Field that holds the items, for each kind that it embeds."""
    rows: Callable[[Mapping[str, Any], int], list[Any]]
    """Returns the vectors of an answer to this many items, in their order, not checked themselves.

    Raises `BrokenAnswerError` if the answer does not say what belongs where."""
    extra: Mapping[Kind, Mapping[str, Any]]
    """Further fields of a request."""
    sends_prompts: bool = False
    """True if it has a field for the name of a prompt."""
    has_base64: bool = False
    """True if vectors may be asked for as base64."""

    def url(self, base_url: str) -> str:
        """Return the route's address, whether or not the base ends in the ``/v1`` that the path begins with."""
        version, _, _ = self.path[1:].partition("/")
        base = base_url.removesuffix(f"/{version}") if version.startswith("v") else base_url
        return base + self.path

    def body(self, config: ModelConfig, items: Sequence[RemoteItem], *, base64: bool) -> bytes:
        """Return the body of a request for items of one kind and one prompt."""
        (kind,) = config.serves
        fields = dict(self.extra.get(kind, {}))
        optional = {
            "model": config.name or None,
            "prompt_name": items[0].prompt_name,
            "dimensions": config.asked_dimensions,
            "encoding_format": ("base64" if base64 else "float") if self.has_base64 else None,
        }
        fields |= {name: value for name, value in optional.items() if value is not None}
        texts = b",".join(item.array.tobytes() for item in items)
        head = json.dumps(fields)[:-1] + (", " if fields else "")
        return b'%b"%b": [%b]}' % (head.encode(), self.items[kind].encode(), texts)


def _embed_rows(answer: Mapping[str, Any], count: int) -> list[Any]:
    of_type(answer, "model", str)
    rows: list[Any] = of_type(answer, "dense_vecs", list)
    if entry(answer, "count") != count:
        message = f"its count is {entry(answer, 'count')!r}, of {count} items"
        raise BrokenAnswerError(message)
    dimension = of_type(answer, "dimension", int)
    if any(isinstance(row, list) and len(row) != dimension for row in rows):
        message = f"a vector has not the {dimension} values that its dimension says"
        raise BrokenAnswerError(message)
    return rows


def _openai_rows(answer: Mapping[str, Any], count: int) -> list[Any]:
    data = of_type(answer, "data", list)
    rows: dict[int, Any] = {}
    for each in data:
        if not isinstance(each, dict):
            message = "an entry of data is no object"
            raise BrokenAnswerError(message)
        rows[of_type(each, "index", int)] = entry(each, "embedding")
    if len(data) != count or rows.keys() != set(range(count)):
        message = f"the indexes of its {len(data)} entries are not 0 to {count - 1}, each once"
        raise BrokenAnswerError(message)
    return [rows[index] for index in range(count)]


def _ollama_rows(answer: Mapping[str, Any], count: int) -> list[Any]:  # noqa: ARG001 - counted with every dialect
    rows: list[Any] = of_type(answer, "embeddings", list)
    return rows


DIALECTS: Mapping[str, Dialect] = {
    "http": Dialect(
        "/embed", {"text": "texts", "image": "images"}, _embed_rows, {"image": {"texts": []}}, sends_prompts=True
    ),
    # For images, infinity's request: data URLs as input, and their modality.
    "openai": Dialect(
        "/v1/embeddings",
        {"text": "input", "image": "input"},
        _openai_rows,
        {"image": {"modality": "image"}},
        has_base64=True,
    ),
    # A text beyond the model's limit is cut, as it is with every other backend.
    "ollama": Dialect("/api/embed", {"text": "input"}, _ollama_rows, {"text": {"truncate": True}}),
}
