"""uvicorn's HTTP protocol with bounds on a client's time, and with this project's answers to broken requests."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from legit_embedding.sources.http.patience import GAVE_WAY, SLOW
from legit_embedding.sources.http.problems import HttpError
from legit_embedding.sources.http.traffic import SURPLUS

if TYPE_CHECKING:
    import asyncio

    from legit_embedding.sources.http.patience import Patience

HEAD_S = 10.0
"""The longest that a client may take to send a request's head, in seconds; a new connection has to begin within it."""
HEAD_BYTES = 64 * 1024
"""The largest head, in bytes; one more read of the socket may be buffered."""
_BETWEEN = len(": \r\n")
KEEP_ALIVE_S = 75
"""The time for which an idle connection is kept, in seconds: longer than the 60 s of most proxies and pools, so that
the server is not the one to close a connection that is about to be used. Within it an answer has to be read, too."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose client is too slow, and refuses those that are too many.

    Args:
        patience: the connections that wait for their clients, of the whole server.
        settings: uvicorn's own arguments.
    """

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_in_head = True
    _is_refused = False
    _problem: HttpError | None = None
    url = b""

    def __init__(self, *, patience: Patience, **settings: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(**settings)
        self._patience = patience

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make a place for the connection, and wait for its first head."""
        super().connection_made(transport)
        is_surplus = self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency
        if is_surplus and not self._patience.make_place():
            self.app_state = self.app_state | {SURPLUS: True}
        self.limit_concurrency = None  # uvicorn's own refusal has no Retry-After
        self._wait(HEAD_S)

    def data_received(self, data: bytes) -> None:
        """Parse, and count the bytes while the head is incomplete."""
        if self._is_refused:
            return
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self._is_refused:
                self._refuse(_too_large())

    def on_message_begin(self) -> None:
        """Wait for a later head on the same connection."""
        super().on_message_begin()
        self.scope["state"]["abort"] = self.transport.abort
        self.scope["state"]["give_way"] = partial(self._patience.close, self.transport, GAVE_WAY)
        self._is_in_head, self._head_bytes = True, 0
        self._wait(HEAD_S)

    def on_headers_complete(self) -> None:
        """Begin the request."""
        if len(self.url) + sum(len(name) + len(value) + _BETWEEN for name, value in self.headers) > HEAD_BYTES:
            self._problem = _too_large()
            raise ValueError(self._problem.detail)  # the parser stops, and `send_400_response` follows
        self._is_in_head = False
        super().on_headers_complete()
        self._settle()

    def on_message_complete(self) -> None:
        """Serve the request."""
        super().on_message_complete()
        self._settle()

    def on_response_complete(self) -> None:
        """Wait until the client has read the answer, and for its next request."""
        is_last = not self.pipeline
        super().on_response_complete()
        if self._is_refused and is_last:
            self.transport.close()
        self._settle()
        self._patience.bound_unread(self.transport)

    def timeout_keep_alive_handler(self) -> None:
        """Do nothing: an own timer is not stopped by stray bytes, nor does it wait for a client to read."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._serve()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words, as plain text
        """Answer what is not HTTP."""
        self._refuse(self._problem or HttpError(400, "bad_request", "the request is not valid HTTP/1.1"))

    def _refuse(self, problem: HttpError) -> None:
        """Answer a request that cannot be read, and close; earlier ones of the connection are answered first."""
        self._is_refused = True
        cycle = self.cycle
        is_in_body = cycle is not None and cycle.more_body
        if self.pipeline:
            if is_in_body:
                self.pipeline.popleft()
        elif cycle is None or (not cycle.response_started if is_in_body else cycle.response_complete):
            response = problem.response(self.url.decode("latin-1"))
            head = [STATUS_LINE[problem.status], *(b"%s: %s\r\n" % header for header in response.raw_headers)]
            self.transport.write(b"".join([*head, b"connection: close\r\n\r\n", bytes(response.body)]))
            self.transport.close()
        elif cycle.response_complete:
            self.transport.close()

    def _settle(self) -> None:
        """Find out whose step is next."""
        if self._is_in_head:
            return
        if self.pipeline or not (self.cycle.more_body or self.cycle.response_complete):
            self._serve()
        elif self.cycle.response_complete:
            self._wait(KEEP_ALIVE_S)
        else:
            self._wait(None)  # whoever reads the body sees to its time

    def _wait(self, seconds: float | None) -> None:
        self._serve()
        self._patience.begin(self.transport)
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if not self._is_in_head and not self.transport.get_write_buffer_size():  # idle, which is nobody's fault
            self._patience.end(self.transport)
            self.transport.abort()
        else:
            self._patience.close(self.transport, SLOW)

    def _serve(self) -> None:
        self._patience.end(self.transport)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _too_large() -> HttpError:
    return HttpError(431, "request_header_fields_too_large", f"the request's head has more than {HEAD_BYTES} bytes")
