"""The OpenAPI document, with request bodies from the models that validate them, and its page without scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any, get_args

from pydantic.json_schema import models_json_schema

from legit_embedding import __version__
from legit_embedding.sources.http.bodies import EmbedBody, EmbeddingsBody
from legit_embedding.sources.http.door import DEADLINE_HEADER, PRIORITY_HEADER
from legit_embedding.wire.task import Priority

_REF = "#/components/schemas/{model}"
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_ERRORS = {
    "400": "The body is not JSON.",
    "401": "A bearer token is needed.",
    "404": "There is no such model.",
    "408": "The deadline has passed, or the body came too slowly.",
    "413": "Too many texts, or too many bytes.",
    "415": "The body is not declared as application/json.",
    "422": "A field does not fit; the message names it.",
    "500": "The model failed.",
    "503": "Overloaded, starting or stopping: try again after Retry-After, here or elsewhere.",
}


def document() -> dict[str, Any]:
    """Make the document."""
    bodies = [(EmbedBody, "validation"), (EmbeddingsBody, "validation")]
    _, found = models_json_schema(bodies, ref_template=_REF)  # type: ignore[arg-type]
    plain = _object(error={"type": "string"}, detail={"type": "string"})
    openai = _object(error=_object(message={"type": "string"}, type={}, code={}, param={}))
    embedded = _object(
        model={"type": "string"},
        dimension={"type": "integer"},
        count={"type": "integer"},
        dense_vecs={"type": "array", "items": _NUMBERS},
    )
    vector = _object(
        object={"const": "embedding"}, index={"type": "integer"}, embedding={"anyOf": [_NUMBERS, {"type": "string"}]}
    )
    usage = _object(prompt_tokens={"type": "integer"}, total_tokens={"type": "integer"})
    vectors = _object(
        object={"const": "list"}, data={"type": "array", "items": vector}, model={"type": "string"}, usage=usage
    )
    model = _object(id={"type": "string"}, object={"const": "model"}, created={"type": "integer"}, owned_by={})
    models = _object(object={"const": "list"}, data={"type": "array", "items": model})
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "legit-embedding", "version": __version__},
        "security": [{}, {"token": []}],
        "paths": {
            "/embed": {"post": _embedding("Embed texts and images.", "EmbedBody", embedded, plain)},
            "/v1/embeddings": {"post": _embedding("Embed as OpenAI's API does.", "EmbeddingsBody", vectors, openai)},
            "/v1/models": {"get": _looking("The models.", models, {"401": openai})},
            "/v1/models/{model}": {
                "get": _looking("One model.", model, {"401": openai, "404": openai}) | {"parameters": [name]}
            },
            "/health": {"get": _looking("Readiness: 503 with the cause while no work can be done.", {}, {"503": {}})},
            "/live": {"get": _looking("Liveness: 503 if a restart would help.", {}, {"503": {}})},
        },
        "components": {
            "schemas": found["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def page(document: dict[str, Any]) -> str:
    """Render the document as a page that loads nothing and runs nothing."""
    parts = [f"<h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(operation['summary'])}</p>")
            for parameter in operation.get("parameters", ()):
                described = escape(parameter.get("description", ""))
                parts.append(f"<p><code>{escape(parameter['name'])}</code> ({parameter['in']}): {described}</p>")
            if "requestBody" in operation:
                parts.append(f"<h3>Body</h3>{_shown(operation['requestBody'])}")
            for status, response in operation["responses"].items():
                parts.append(f"<h3>{status}</h3><p>{escape(response['description'])}</p>{_shown(response)}")
    schemas = json.dumps(document["components"]["schemas"], indent=2)
    parts.append(f"<h2>Schemas</h2><pre>{escape(schemas)}</pre>")
    head = f'<meta charset="utf-8"><title>legit-embedding</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "pre{overflow-x:auto;font-size:.85rem}h2{border-top:1px solid;padding-top:1rem}"
)
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
        + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
        + "'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def _shown(holder: dict[str, Any]) -> str:
    schema = holder["content"]["application/json"]["schema"]
    return f"<pre>{escape(json.dumps(schema, indent=2))}</pre>" if schema else ""


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _looking(summary: str, answer: dict[str, Any], errors: dict[str, dict[str, Any]]) -> dict[str, Any]:
    refused = {status: {"description": _ERRORS[status]} | _content(error) for status, error in errors.items()}
    return {"summary": summary, "responses": {"200": {"description": "The answer."} | _content(answer)} | refused}


def _embedding(summary: str, body: str, answer: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    deadline = {
        "name": DEADLINE_HEADER,
        "in": "header",
        "description": "Unix time in milliseconds after which the items are not embedded any more.",
        "schema": {"type": "integer", "minimum": 0},
    }
    priority = {
        "name": PRIORITY_HEADER,
        "in": "header",
        "description": "Interactive items go before those of streams and queues; they do by default.",
        "schema": {"enum": list(get_args(Priority)), "default": "interactive"},
    }
    return _looking(summary, answer, dict.fromkeys(_ERRORS, error)) | {
        "parameters": [deadline, priority],
        "requestBody": {"required": True} | _content({"$ref": _REF.format(model=body)}),
    }
