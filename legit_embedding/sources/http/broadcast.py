"""One stream of events for many listeners, computed only while there are any."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from starlette.responses import StreamingResponse

from legit_embedding.sources.http.problems import unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

EVERY_S = 1.0
MOST_LISTENERS = 64
STALLED_S = 15.0
"""The longest that a listener may take to read an event, in seconds, before its connection is cut."""


class Broadcast:
    """Looks once per interval, in a thread, and passes what it saw to every listener that is ready for it.

    All methods belong to the event loop's thread. A listener that is slow misses events; it delays nobody.

    Args:
        look: returns the next event, JSON-serialisable; it may take locks.
        greet: returns the event ``history``, which only a new listener receives; it must be quick.
        every_s: the interval, in seconds.
        most: the greatest number of listeners.
    """

    def __init__(
        self,
        look: Callable[[], Any],
        greet: Callable[[], Any],
        *,
        every_s: float = EVERY_S,
        most: int = MOST_LISTENERS,
    ) -> None:
        self._look = look
        self._greet = greet
        self._every_s = every_s
        self._most = most
        self._next: asyncio.Future[bytes | None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False
        self.listeners = 0

    def listen(self) -> AsyncIterator[bytes]:
        """Return the events from now on, in the format of server-sent events, until `close`.

        Raises:
            HttpError: 503: there are too many listeners, or the worker is stopping.
        """
        if self._is_closed or self.listeners >= self._most:
            reason = "the worker is stopping" if self._is_closed else f"{self._most} pages are already open"
            raise unavailable("overloaded", reason)
        self.listeners += 1
        return self._events()

    def leave(self) -> None:
        """Count out one listener; without any the looking ends."""
        self.listeners -= 1

    def close(self) -> None:
        """End all streams, for good."""
        self._is_closed = True
        self._tell(None)

    async def _events(self) -> AsyncIterator[bytes]:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._looking is None:
            self._looking = asyncio.create_task(self._keep_looking())
        yield b"event: history\ndata: " + to_json(self._greet()) + b"\n\n"
        while not self._is_closed and (event := await asyncio.shield(self._next)) is not None:
            yield event

    async def _keep_looking(self) -> None:
        now = asyncio.get_running_loop().time
        while self.listeners and not self._is_closed:
            began = now()
            try:
                event = await asyncio.to_thread(self._look)
            except Exception:
                logger.exception("The figures of the page could not be read")
            else:
                self._tell(b"data: " + to_json(event) + b"\n\n")
            await asyncio.sleep(max(0.0, began + self._every_s - now()))
        self._looking = None

    def _tell(self, event: bytes | None) -> None:
        told, self._next = self._next, None
        if told is not None:
            self._next = told.get_loop().create_future()
            if not told.done():
                told.set_result(event)


class EventStream(StreamingResponse):
    """The response to one listener, which is counted out when it ends, however that is.

    Raises:
        HttpError: as for `Broadcast.listen`.
    """

    media_type = "text/event-stream"

    def __init__(self, broadcast: Broadcast, abort: Callable[[], None]) -> None:
        self._broadcast = broadcast
        self._abort = abort
        # A proxy that collects an answer before it passes it on would keep the events.
        super().__init__(broadcast.listen(), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the listener goes away or the worker stops."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._broadcast.leave()

    async def stream_response(self, send: Send) -> None:
        """Send events, and cut the connection of a listener that doesn't read them."""

        async def send_soon(message: Message) -> None:
            async with asyncio.timeout(STALLED_S):
                await send(message)

        try:
            await super().stream_response(send_soon)
        except TimeoutError:
            self._abort()
