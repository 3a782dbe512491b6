"""The OpenAPI document, with request bodies from the models that validate them, and its page without scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import TYPE_CHECKING, Any, get_args

from legit_embedding import __version__
from legit_embedding.models.config import KINDS
from legit_embedding.sources.http.door import DEADLINE_HEADER, PRIORITY_HEADER
from legit_embedding.sources.http.schemas import REF, of_bodies, shape
from legit_embedding.telemetry.health import State
from legit_embedding.wire.task import LATEST_DEADLINE, Priority

if TYPE_CHECKING:
    from legit_embedding.config import Settings

_NUMBERS = {"type": "array", "items": {"type": "number"}}
_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
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


def document(settings: Settings, *, asks_for_token: bool) -> dict[str, Any]:
    """Make the document of a server with these settings."""
    plain = _object(error=_TEXT, detail=_TEXT)
    openai = _object(error=_object(message=_TEXT, type=_TEXT, code=_TEXT, param=_or_null(_TEXT)))
    embedded = _object(model=_TEXT, dimension=_COUNT, count=_COUNT, dense_vecs={"type": "array", "items": _NUMBERS})
    vector = _object(object={"const": "embedding"}, index=_COUNT, embedding={"anyOf": [_NUMBERS, _TEXT]})
    usage = _object(prompt_tokens=_COUNT, total_tokens=_COUNT)
    vectors = _object(object={"const": "list"}, data={"type": "array", "items": vector}, model=_TEXT, usage=usage)
    model = _object(id=_TEXT, object={"const": "model"}, created=_COUNT, owned_by=_TEXT)
    models = _object(object={"const": "list"}, data={"type": "array", "items": model})
    name = {"name": "model", "in": "path", "required": True, "schema": {"enum": list(settings.models)}}
    looking = dict.fromkeys(("401", "500", "503"), openai)
    return {
        "openapi": "3.1.0",
        "info": {"title": "legit-embedding", "version": __version__},
        "security": [{"token": []}] if asks_for_token else [],
        "paths": {
            "/embed": {"post": _embedding("Embed texts and images.", "EmbedBody", embedded, plain)},
            "/v1/embeddings": {"post": _embedding("Embed as OpenAI's API does.", "EmbeddingsBody", vectors, openai)},
            "/v1/models": {"get": _looking("The models.", models, looking)},
            "/v1/models/{model}": {
                "get": _looking("One model.", model, looking | {"404": openai}) | {"parameters": [name]}
            },
            "/health": {"get": _probing("Readiness: 503 with the cause while no work can be done.", _HEALTH, plain)},
            "/live": {"get": _probing("Liveness: 503 if a restart would help.", _LIVE, plain)},
        },
        "components": {
            "schemas": of_bodies(settings),
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
    return shape(list(properties), **properties)


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


_MODEL = _object(
    kind={"enum": [*KINDS, "+".join(KINDS)]},
    dimension=_or_null(_COUNT),
    loaded={"type": "boolean"},
    last_ok_s=_or_null({"type": "number", "minimum": 0}),
    waiting=_COUNT,
)
_MODEL["properties"]["breaker"] = {"enum": ["open", "closed"]}
_HEALTH = _object(
    status={"enum": ["ok", *get_args(State)]},
    model=_or_null(_TEXT),
    dimension=_or_null(_COUNT),
    models={"type": "object", "additionalProperties": _MODEL},
    problems={"type": "array", "items": _TEXT},
)
_LIVE = _object(status={"enum": ["ok", "stuck"]})


def _looking(summary: str, answer: dict[str, Any], errors: dict[str, dict[str, Any]]) -> dict[str, Any]:
    refused: dict[str, Any] = {
        status: {"description": _ERRORS[status]} | _content(error) for status, error in errors.items()
    }
    refused["503"]["headers"] = {"Retry-After": {"description": "In seconds.", "schema": _COUNT}}
    return {"summary": summary, "responses": {"200": {"description": "The answer."} | _content(answer)} | refused}


def _probing(summary: str, answer: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    """A route that is answered whatever token comes, and with its own body when it is red."""
    return _looking(summary, answer, {"500": error, "503": {"anyOf": [answer, error]}}) | {"security": []}


def _embedding(summary: str, body: str, answer: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    deadline = {
        "name": DEADLINE_HEADER,
        "in": "header",
        "description": "Unix time in milliseconds after which the items are not embedded any more.",
        "schema": {"type": "integer", "minimum": 0, "maximum": LATEST_DEADLINE},
        "example": LATEST_DEADLINE,
    }
    priority = {
        "name": PRIORITY_HEADER,
        "in": "header",
        "description": "Interactive items go before those of streams and queues; they do by default.",
        "schema": {"enum": list(get_args(Priority)), "default": "interactive"},
    }
    return _looking(summary, answer, dict.fromkeys(_ERRORS, error)) | {
        "parameters": [deadline, priority],
        "requestBody": {"required": True} | _content({"$ref": REF.format(model=body)}),
    }
