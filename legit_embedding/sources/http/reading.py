"""Reading of request bodies within the limits, and detection of clients that go away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from legit_embedding.sources.http.problems import HttpError, too_large

if TYPE_CHECKING:
    from starlette.requests import Request

    from legit_embedding.sources.http.holding import Hold

LINGER_S = 2.0
"""The time for which the rest of a refused body is read and dropped, in seconds: a client still sending when the
connection closes doesn't see the answer."""


async def read_body(request: Request, most: int, hold: Hold) -> bytes:
    """Read the whole body.

    Raises:
        HttpError: 413 beyond `most` bytes, 503 if other requests hold too much, 400 if the client leaves meanwhile.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise too_large(f"the body has {declared} bytes; http.max_body_bytes allows {most}")
    chunks: list[bytes] = []
    size = 0
    while not is_read(request):
        chunk = await _next(request)
        size += len(chunk)
        if size > most:
            raise too_large(f"the body has more than http.max_body_bytes: {most} bytes")
        hold.take(size=len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


async def drop_body(request: Request) -> bool:
    """Read the rest of a body and drop it; False if that takes too long."""
    try:
        async with asyncio.timeout(LINGER_S):
            while not is_read(request):
                await _next(request)
    except (TimeoutError, HttpError):
        return False
    return True


async def until_gone(request: Request) -> None:
    """Wait until the client has closed its connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def is_read(request: Request) -> bool:
    """Return True if nothing of the body is left."""
    return bool(getattr(request.state, "body_is_read", False))


async def _next(request: Request) -> bytes:
    message = await request.receive()
    if message["type"] == "http.disconnect":
        request.state.body_is_read = True
        raise HttpError(400, "bad_request", "the client closed the connection before the body was complete")
    request.state.body_is_read = not message.get("more_body", False)
    body: bytes = message.get("body", b"")
    return body
