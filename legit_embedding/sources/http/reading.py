"""Reading of request bodies within the limits, and detection of clients that go away."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from legit_embedding.sources.http.problems import HttpError, too_large

if TYPE_CHECKING:
    from starlette.requests import Request

    from legit_embedding.sources.http.holding import Hold

LINGER_S = 2.0
"""The time for which the rest of a refused body is read and dropped, in seconds: a client still sending when the
connection closes doesn't see the answer."""
STILL_S = 1.0
"""The time, in seconds, after which a body whose client sends nothing more is let go of if another needs the memory."""


class Bodies:
    """The bodies that are being read. All methods belong to the event loop's thread.

    Args:
        most: the largest body, in bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Request, tuple[float, Hold]] = {}
        """The requests whose clients are to send more, in the order of their last bytes, and when those came."""

    async def read(self, request: Request, hold: Hold) -> bytes:
        """Read the whole body.

        Raises:
            HttpError: 413 beyond the largest body, 503 if other requests hold too much, 400 if the client leaves.
        """
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._most:
            raise too_large(f"the body has {declared} bytes; http.max_body_bytes allows {self._most}")
        chunks: list[bytes] = []
        size = 0
        while not is_read(request):
            chunk = await self._next(request, hold)
            size += len(chunk)
            if size > self._most:
                raise too_large(f"the body has more than http.max_body_bytes: {self._most} bytes")
            while not hold.has_room(len(chunk)) and self._make_room():
                pass
            hold.take(size=len(chunk))
            chunks.append(chunk)
        return b"".join(chunks)

    async def _next(self, request: Request, hold: Hold) -> bytes:
        self._waiting[request] = time.monotonic(), hold
        try:
            return await _next(request)
        finally:
            self._waiting.pop(request, None)

    def _make_room(self) -> bool:
        """Close the connection that has stood still longest in the middle of a body; False if none does."""
        before = time.monotonic() - STILL_S
        still = ((request, hold) for request, (last, hold) in self._waiting.items() if last < before and hold.size)
        request, hold = next(still, (None, None))
        if request is None or hold is None:
            return False
        del self._waiting[request]
        hold.release()
        request.state.give_way()
        return True


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
