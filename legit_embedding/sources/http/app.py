"""The ASGI application: the door, the page, and the worker's health and metrics."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from legit_embedding.sources.http import openapi, site
from legit_embedding.sources.http.problems import HttpError, answer_crash, answer_http_error, answer_problem
from legit_embedding.sources.http.reading import drop_body
from legit_embedding.sources.http.traffic import Counted, Traffic
from legit_embedding.telemetry.health import WELL, is_alive, report
from legit_embedding.telemetry.metrics import make_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from legit_embedding.config import Settings
    from legit_embedding.pipeline.pipeline import Pipeline
    from legit_embedding.sources.http.broadcast import Broadcast
    from legit_embedding.sources.http.door import Door


def make_app(
    pipeline: Pipeline,
    state: Callable[[], tuple[str, list[str]]],
    door: Door,
    broadcast: Broadcast,
    closed: Callable[[], Mapping[str, int]],
) -> Starlette:
    """Make the application.

    Args:
        pipeline: the worker's pipeline.
        state: returns the worker's state and its problems.
        door: embeds; its routes are left out of a worker that embeds nothing, or where ``http.embed`` is off.
        broadcast: the events of the page.
        closed: returns the number of connections closed on their clients, by cause.
    """
    config = pipeline.settings.http
    registry = make_registry(pipeline, lambda: state()[0] in WELL)
    traffic = Traffic(pipeline.worker, lambda: door.allowance.items, closed)
    registry.register(traffic)

    # Not coroutines: both take locks, and run in threads.
    def health(_: Request) -> Response:
        status, body = report(pipeline, *state())
        return JSONResponse(body, status)

    def metrics(request: Request) -> Response:
        if not config.open_metrics:
            door.authorize(request)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    def live(_: Request) -> Response:
        alive = is_alive(pipeline.snapshot())
        status = HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse({"status": "ok" if alive else "stuck"}, status)

    routes: list[BaseRoute] = [Route("/health", health), Route("/live", live), Route("/metrics", metrics)]
    routes += site.routes(door, broadcast)
    if door.is_open:
        routes += [*door.routes(), *_described(pipeline.settings, asks_for_token=door.asks_for_token)]
    cors = Middleware(
        CORSMiddleware, allow_origins=config.cors_origins, allow_methods=["GET", "POST"], allow_headers=["*"]
    )
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Counted, traffic=traffic), *([cors] if config.cors_origins else [])],
        exception_handlers={
            HttpError: _answer_problem,
            HTTPException: answer_http_error,
            Exception: answer_crash,
        },
    )
    app.router.redirect_slashes = False  # to a path that has no route all clients get the same answer
    return app


def _described(settings: Settings, *, asks_for_token: bool) -> list[BaseRoute]:
    """The OpenAPI document and its page."""
    described = openapi.document(settings, asks_for_token=asks_for_token)
    page = openapi.page(described)
    return [
        Route("/openapi.json", lambda _: JSONResponse(described)),
        Route("/docs", lambda _: HTMLResponse(page, headers=openapi.PAGE_HEADERS)),
    ]


async def _answer_problem(request: Request, problem: Exception) -> Response:
    """Answer once the client has sent the rest of its body: while it is sending it would not see the answer."""
    response = await answer_problem(request, problem)
    if not await drop_body(request):
        response.headers["Connection"] = "close"
    return response
