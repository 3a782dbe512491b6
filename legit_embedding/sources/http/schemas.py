"""JSON Schemas of the request bodies, narrowed to the models and the limits of this server.

The models that validate bodies say which types fit; what else has to fit depends on the settings, or on several
fields at once. A body that fits these schemas is refused only for what no schema can say: a prompt or a token id that
the model does not have, an image that does not decode, a URL that cannot be fetched, a deadline that has passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from legit_embedding.sources.http.bodies import EmbedBody, EmbeddingsBody

if TYPE_CHECKING:
    from legit_embedding.config import Settings

REF = "#/components/schemas/{model}"
_NONE: dict[str, Any] = {"type": "null"}
_IMAGE: dict[str, Any] = {"$ref": REF.format(model="Image")}
_DATA_URL = (
    "^[dD][aA][tT][aA]:[^,]*;[bB][aA][sS][eE]64,"
    "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)$"
)


def of_bodies(settings: Settings) -> dict[str, Any]:
    """Return the schemas by name."""
    _, found = models_json_schema([(EmbedBody, "validation"), (EmbeddingsBody, "validation")], ref_template=REF)
    schemas: dict[str, Any] = found["$defs"]
    schemas["Image"] = _image(settings)
    schemas["Part"]["anyOf"] = [
        shape(["type", "text"], type={"const": "text"}, text={"type": "string"}),
        shape(["type", "image_url"], type={"const": "image_url"}, image_url=shape(["url"], url=_IMAGE)),
    ]
    for body in (schemas["EmbedBody"], schemas["EmbeddingsBody"]):
        body["properties"]["model"]["enum"] = [*settings.models, None]
        body["properties"]["dimensions"]["enum"] = [*_lengths(settings), None]
    schemas["EmbedBody"]["anyOf"] = _embed_variants(settings)
    schemas["EmbeddingsBody"]["anyOf"] = _embeddings_variants(settings)
    return schemas


def shape(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object."""
    return {"type": "object", "properties": properties, "required": required}


def _image(settings: Settings) -> dict[str, Any]:
    urls = [{"type": "string", "pattern": f"^{scheme}://"} for scheme in settings.fetch.schemes]
    return {"anyOf": [{"type": "string", "pattern": _DATA_URL}, *urls]}


def _lengths(settings: Settings) -> list[int]:
    configs = settings.models.values()
    return sorted({length for each in configs for length in (*each.matryoshka, each.dimensions) if length is not None})


def _embed_variants(settings: Settings) -> list[dict[str, Any]]:
    texts, images = _several(settings, _text(settings)), _several(settings, _IMAGE)
    nothing = {"type": "array", "maxItems": 0}
    variants = [
        shape(["texts"], texts=texts, images=nothing),
        shape(["images"], images=nothing, texts=texts),
        shape(["images"], images=images, texts=nothing, prompt_name=_NONE),
    ]
    if any(len(config.serves) > 1 for config in settings.models.values()):
        variants.append(shape(["texts", "images"], texts=texts, images=images, prompt_name=_NONE))
    return variants


def _embeddings_variants(settings: Settings) -> list[dict[str, Any]]:
    text, only_text, only_image = _text(settings), {"const": "text"}, {"const": "image"}
    token_id = {"type": "integer", "minimum": 0}
    ids = {"type": "array", "items": token_id, "minItems": 1, "maxItems": settings.http.max_text_chars}

    def one_or_more(each: dict[str, Any]) -> dict[str, Any]:
        return {"anyOf": [each, _several(settings, each)]}

    return [
        shape(["input"], input=one_or_more(text), modality=only_text, messages=_NONE),
        shape(["input"], input=one_or_more(ids), modality=only_text, messages=_NONE, prompt_name=_NONE),
        shape(["input", "modality"], input=one_or_more(_IMAGE), modality=only_image, messages=_NONE, prompt_name=_NONE),
        shape(["messages"], messages=_one_message(text, "text"), input=_NONE),
        shape(["messages"], messages=_one_message(None, "image_url"), input=_NONE, prompt_name=_NONE),
    ]


def _one_message(text: dict[str, Any] | None, kind: str) -> dict[str, Any]:
    """Return the schema of a list of one message with one part of this kind, or with a text instead of parts."""
    fits = {} if text is None else {"text": text}
    part = shape(["type"], type={"const": kind}, **fits) | {"$ref": REF.format(model="Part")}
    parts = {"type": "array", "items": part, "minItems": 1, "maxItems": 1}
    content = parts if text is None else {"anyOf": [text, parts]}
    return {"type": "array", "items": shape(["content"], content=content), "minItems": 1, "maxItems": 1}


def _text(settings: Settings) -> dict[str, Any]:
    return {"type": "string", "maxLength": settings.http.max_text_chars}


def _several(settings: Settings, each: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": each, "maxItems": settings.http.max_items}
