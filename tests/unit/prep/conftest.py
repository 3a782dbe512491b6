"""A web server that does what a test tells it to."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the site's page of that path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        site.requests.append((self.path, self.headers))
        site.pages[self.path.partition("?")[0]](self)

    def answer(self, body: bytes = b"", status: int = 200, **headers: object) -> None:
        """A proper answer; header names are written with underscores."""
        fields = {"Content_Length": len(body)} | headers
        self.send_response(status)
        for name, value in fields.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def pour(self, chunk: bytes, head: bytes = b"") -> None:
        """Write a head, and then the same chunk until the client has gone."""
        self.close_connection = True
        try:
            self.wfile.write(head)
            while not self.server.site.closing.wait(0.02 if len(chunk) == 1 else 0):  # type: ignore[attr-defined]
                self.wfile.write(chunk)
                self.server.site.poured += len(chunk)  # type: ignore[attr-defined]
        except OSError:
            pass

    def log_message(self, *args: object) -> None:
        pass


class Site(ThreadingHTTPServer):
    """The server, what it serves and what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.site = self
        self.pages: dict[str, Callable[[Handler], None]] = {}
        self.requests: list[tuple[str, Message]] = []
        self.connections = 0
        self.poured = 0
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.place}{path}"

    def get_request(self):
        self.connections += 1
        return super().get_request()


@pytest.fixture
def site() -> Iterator[Site]:
    """A server on the loopback address."""
    server = Site()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()
