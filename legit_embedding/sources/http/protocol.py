"""uvicorn's HTTP protocol with bounds on the size and the duration of a request's head, which uvicorn does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from legit_embedding.sources.http.traffic import SURPLUS

if TYPE_CHECKING:
    import asyncio

HEAD_S = 10.0
"""The longest that a client may take to send a request's head, in seconds; a new connection has to begin within it."""
HEAD_BYTES = 64 * 1024
"""The largest head, in bytes, checked after each read of the socket: one more read may be buffered."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose request's head comes too slowly or is too long, and marks those that are too many."""

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of the first head."""
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency:
            self.app_state = self.app_state | {SURPLUS: True}
        self.limit_concurrency = None  # uvicorn's own refusal has no Retry-After
        self._begin_head()

    def data_received(self, data: bytes) -> None:
        """Parse, and count the bytes while the head is incomplete."""
        super().data_received(data)
        if self._timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """Start the timer of a later head on the same connection."""
        super().on_message_begin()
        self.scope["state"]["abort"] = self.transport.abort
        if self._timer is None:
            self._begin_head()

    def on_headers_complete(self) -> None:
        """Stop the timer, and begin the request."""
        self._end_head()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._end_head()
        super().connection_lost(exc)

    def _begin_head(self) -> None:
        self._head_bytes = 0
        self._timer = self.loop.call_later(HEAD_S, self.transport.abort)

    def _end_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
