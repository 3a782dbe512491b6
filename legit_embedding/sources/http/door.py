"""The routes that embed: ``POST /embed``, ``POST /v1/embeddings`` and ``GET /v1/models``."""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Generic, TypeVar, get_args

from pydantic_core import to_json
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from legit_embedding.encoding import decode_embedding
from legit_embedding.errors import ConfigError, TaskError
from legit_embedding.sources.http.answers import Answers
from legit_embedding.sources.http.bodies import EmbedBody, EmbeddingsBody, read
from legit_embedding.sources.http.holding import Allowance, Hold
from legit_embedding.sources.http.problems import HttpError, too_large, unavailable
from legit_embedding.sources.http.reading import Bodies, until_gone
from legit_embedding.wire.result import Timings
from legit_embedding.wire.task import LATEST_DEADLINE, Priority

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from legit_embedding.config import HttpConfig, Kind
    from legit_embedding.pipeline.pipeline import Pipeline
    from legit_embedding.sources.http.bodies import Item
    from legit_embedding.wire.result import Embedded

DEADLINE_HEADER = "X-Request-Deadline-Ms"
"""Unix time in milliseconds, as the task field ``deadline``."""
PRIORITY_HEADER = "X-Priority"
"""``interactive``, the default, or ``bulk``, as the task field ``priority``."""
BODIES = 8
"""The number of bodies of the largest permitted size that all requests together may hold."""

BodyT = TypeVar("BodyT", EmbedBody, EmbeddingsBody)


@dataclass(frozen=True, slots=True)
class Served(Generic[BodyT]):
    """A request and its vectors."""

    body: BodyT
    model: str
    embedded: Sequence[Embedded] = ()
    tokens: int = 0
    timings: Timings = field(default_factory=Timings)


class Door:
    """Embeds what requests carry.

    Args:
        pipeline: embeds the items.

    Raises:
        ConfigError: ``http.token_file`` cannot be read.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._config = pipeline.settings.http
        self._tokens = read_tokens(self._config)
        self.allowance = Allowance(self._config.max_in_flight, BODIES * self._config.max_body_bytes)
        self._bodies = Bodies(self._config.max_body_bytes)
        self._created = int(time.time())

    def routes(self) -> list[BaseRoute]:
        """The routes, for an application."""
        return [
            Route("/embed", self.embed, methods=["POST"]),
            Route("/v1/embeddings", self.embeddings, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
        ]

    @property
    def is_open(self) -> bool:
        """True if this worker embeds over HTTP."""
        return self._config.embed and not self._pipeline.prep_only

    @property
    def asks_for_token(self) -> bool:
        """True if a token is set."""
        return bool(self._tokens)

    def authorize(self, request: Request) -> None:
        """Check the bearer token, if one is set, in a time that says nothing about it.

        Raises:
            HttpError: 401.
        """
        given = request.headers.get("authorization", "").encode("latin-1")
        same = [hmac.compare_digest(given, b"Bearer " + token) for token in self._tokens]
        if same and not any(same):
            detail = "a bearer token is needed: Authorization: Bearer ..."
            headers = {"WWW-Authenticate": "Bearer"}
            raise HttpError(HTTPStatus.UNAUTHORIZED, "invalid_api_key", detail, headers=headers)

    async def embed(self, request: Request) -> Response:
        """Answer ``POST /embed``."""
        served = await self._embed(request, EmbedBody)
        vectors = [decode_embedding(each.embedding).tolist() for each in served.embedded]
        dimension = len(vectors[0]) if vectors else served.body.dimensions or self._pipeline.registry.dim(served.model)
        body = {"model": served.model, "dimension": dimension, "count": len(vectors), "dense_vecs": vectors}
        return _json(body, served.timings)

    async def embeddings(self, request: Request) -> Response:
        """Answer ``POST /v1/embeddings``."""
        served = await self._embed(request, EmbeddingsBody)
        texts = [each.embedding for each in served.embedded]
        vectors = texts if served.body.encoding_format == "base64" else [decode_embedding(t).tolist() for t in texts]
        data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
        usage = {"prompt_tokens": served.tokens, "total_tokens": served.tokens}
        return _json({"object": "list", "data": data, "model": served.model, "usage": usage}, served.timings)

    async def models(self, request: Request) -> Response:
        """Answer ``GET /v1/models``."""
        self.authorize(request)
        data = [self._shown(name) for name in self._pipeline.registry.names()]
        return JSONResponse({"object": "list", "data": data})

    async def model(self, request: Request) -> Response:
        """Answer ``GET /v1/models/NAME``."""
        self.authorize(request)
        name = request.path_params["model"]
        if name not in self._pipeline.registry.names():
            raise HttpError.of(TaskError("unknown_model", f"there is no model {name!r}"))
        return JSONResponse(self._shown(name))

    def _shown(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "legit-embedding"}

    async def _embed(self, request: Request, shape: type[BodyT]) -> Served[BodyT]:
        """Embed the items of a request, which count as held until none of them is in the pipeline."""
        self.authorize(request)
        self._check_phase()
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            detail = "send the body as Content-Type: application/json"
            raise HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
        hold = Hold(self.allowance)
        ends = asyncio.get_running_loop().time() + self._config.timeout_s
        answers = None
        try:
            try:
                async with asyncio.timeout_at(ends):
                    body = read(shape, await self._bodies.read(request, hold))
            except TimeoutError:
                detail = f"the body took longer than http.timeout_s: {self._config.timeout_s:g} s"
                raise HttpError(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", detail) from None
            items = body.items()
            model = self._check(body, items)
            common = self._common(request, body)
            self._check_phase()
            if not items:
                return Served(body, model)
            hold.take(items=len(items))
            answers = Answers(self._pipeline, uuid.uuid4().hex, items, common, hold)
        finally:
            if answers is None:
                hold.release()
        embedded = await self._collected(request, answers, ends)
        return Served(body, model, embedded, answers.tokens, answers.timings)

    async def _collected(self, request: Request, answers: Answers, ends: float) -> Sequence[Embedded]:
        """Wait for the vectors, unless the client goes away or the time is over; then the items are cancelled."""
        collecting = asyncio.ensure_future(answers.collect())
        gone = asyncio.ensure_future(until_gone(request))
        try:
            left = ends - asyncio.get_running_loop().time()
            await asyncio.wait({collecting, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if collecting.done():
                return collecting.result()
            if gone.done():
                raise HttpError(400, "bad_request", "the client has gone away")
            detail = f"not embedded within http.timeout_s: {self._config.timeout_s:g} s"
            raise unavailable("overloaded", detail, "timeout")
        finally:
            gone.cancel()
            collecting.cancel()
            answers.close()
            with suppress(asyncio.CancelledError, HttpError):
                await collecting

    def _check_phase(self) -> None:
        if self._pipeline.phase != "running":
            raise unavailable(self._pipeline.phase, f"the worker is {self._pipeline.phase}")

    def _check(self, body: EmbedBody | EmbeddingsBody, items: list[Item]) -> str:
        """Check what all items share, so that a request fails at once, and return the model's name."""
        config = self._config
        if len(items) > config.max_items:
            raise too_large(f"{len(items)} items; http.max_items allows {config.max_items}")
        for item in items:
            if item.length > config.max_text_chars:
                limit = f"http.max_text_chars allows {config.max_text_chars}"
                raise too_large(f"{item.param}: {item.length} characters; {limit}", item.param)
        kinds: list[Kind] = list(dict.fromkeys(item.kind for item in items)) or ["text"]
        try:
            towers = [self._pipeline.registry.resolve(body.model, kind) for kind in kinds]
            for tower in towers:
                tower.dimensions(body.dimensions)
        except TaskError as error:
            raise HttpError.of(error) from None
        if len({tower.model for tower in towers}) > 1:
            names = " and ".join(tower.model for tower in towers)
            detail = f"model: texts and images in one request need one model for both, not {names}"
            raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_task", detail, "model")
        return towers[0].model

    def _common(self, request: Request, body: EmbedBody | EmbeddingsBody) -> dict[str, object]:
        """The task fields that all items share."""
        priority = request.headers.get(PRIORITY_HEADER, "interactive")
        if priority not in get_args(Priority):
            detail = f"{PRIORITY_HEADER}: expected {' or '.join(get_args(Priority))}"
            raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_task", detail, PRIORITY_HEADER)
        common: dict[str, object] = {"model": body.model, "dimensions": body.dimensions, "priority": priority}
        if body.prompt_name is not None:
            common["prompt_name"] = body.prompt_name
        deadline = request.headers.get(DEADLINE_HEADER)
        if deadline is not None:
            # Python reads no number of thousands of digits.
            is_time = deadline.isascii() and deadline.isdecimal() and len(deadline) <= len(str(LATEST_DEADLINE))
            if not is_time or int(deadline) > LATEST_DEADLINE:
                detail = f"{DEADLINE_HEADER}: expected Unix time in milliseconds"
                raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_task", detail, DEADLINE_HEADER)
            common["deadline"] = int(deadline)
        return common


def read_tokens(config: HttpConfig) -> tuple[bytes, ...]:
    """Collect the tokens of all settings; a line of the file that is empty or begins with # is skipped.

    Raises:
        ConfigError: the file cannot be read, or holds no token.
    """
    tokens = [config.token, *config.tokens]
    if config.token_file is not None:
        try:
            lines = [line.strip() for line in config.token_file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            message = f"http.token_file: {config.token_file} cannot be read: {reason}"
            raise ConfigError(message) from None
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            message = f"http.token_file: {config.token_file} holds no token"
            raise ConfigError(message)
        tokens += found
    return tuple(token.encode() for token in tokens if token)


def _json(content: object, timings: Timings) -> Response:
    stages = {"prep": timings.prep_ms, "wait": timings.queue_ms, "device": timings.compute_ms}
    headers = {"Server-Timing": ", ".join(f"{stage};dur={ms}" for stage, ms in stages.items())}
    # Ten times as fast as the json module for vectors.
    return Response(to_json(content), headers=headers, media_type="application/json")
