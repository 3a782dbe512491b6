"""The page at ``GET /``, its files, and the events that fill it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from legit_embedding.sources.http.broadcast import EventStream

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from legit_embedding.sources.http.broadcast import Broadcast
    from legit_embedding.sources.http.door import Door

FILES = Path(__file__).with_name("page")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Files of two versions must not meet in one page.
    "Cache-Control": "no-cache",
}


def routes(door: Door, broadcast: Broadcast) -> list[BaseRoute]:
    """Make the routes. The files hold no data and need no token; the events do."""

    def index(_: Request) -> Response:
        return FileResponse(FILES / "index.html", headers=HEADERS)

    async def events(request: Request) -> Response:
        door.authorize(request)
        return EventStream(broadcast, request.state.abort)

    return [Route("/", index), Route("/events", events), Mount("/page", _Files(directory=FILES))]


class _Files(StaticFiles):
    def file_response(self, *arguments: Any, **options: Any) -> Response:  # noqa: ANN401 - Starlette's own
        response = super().file_response(*arguments, **options)
        response.headers.update(HEADERS)
        return response
