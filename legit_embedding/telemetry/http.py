"""``/health`` and ``/metrics`` over HTTP (CONTRACT section 7), off unless a port is set."""

from __future__ import annotations

import hmac
import json
import logging
import socket
import sys
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from legit_embedding.errors import ConfigError
from legit_embedding.telemetry.health import WELL

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from legit_embedding.pipeline.snapshot import Observed

logger = logging.getLogger(__name__)

_CLIENT_S = 10.0
_STOP_S = 2.0


class TelemetryServer:
    """HTTP server for probes and scrapes, running in its own threads.

    Args:
        pipeline: the worker's pipeline.
        state: returns the worker's state and its problems.

    Raises:
        ConfigError: the configured address cannot be listened on.
    """

    def __init__(self, pipeline: Observed, state: Callable[[], tuple[str, list[str]]]) -> None:
        from legit_embedding.telemetry.metrics import make_registry

        http = pipeline.settings.http
        self._pipeline = pipeline
        self._state = state
        self.registry = make_registry(pipeline, lambda: state()[0] in WELL)
        self.token = http.token
        try:
            self._server = _Server((http.host, http.port), self)
        except OSError as error:
            message = f"http.port: cannot listen on {http.host}:{http.port}: {error.strerror or error}"
            raise ConfigError(message) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(_STOP_S)
        self._server.server_close()

    def health(self) -> tuple[HTTPStatus, dict[str, Any]]:
        """Return the status and body for ``GET /health``."""
        state, problems = self._state()
        well = state in WELL
        model = self._shown_model()
        body = {
            "status": "ok" if state == "running" else state,
            "model": model,
            "dimension": self._dimension(model) if model is not None else None,
            "models": {
                name: {"kind": "+".join(config.serves), "dimension": self._dimension(name)}
                for name, config in self._pipeline.settings.models.items()
            },
            "problems": problems,
        }
        return HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, body

    def _shown_model(self) -> str | None:
        settings = self._pipeline.settings
        return settings.default_model("text") or settings.default_model("image")

    def _dimension(self, model: str) -> int | None:
        """Return the dimension of a model's vectors, or None until it is loaded."""
        with suppress(Exception):
            return self._pipeline.registry.dim(model)
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], telemetry: TelemetryServer) -> None:
        self.telemetry = telemetry
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - the base class's
        """Ignore clients that disconnect."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            logger.exception("A request to the HTTP port failed")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _CLIENT_S
    protocol_version = "HTTP/1.1"
    server_version = "legit-embedding"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            status, body = self.server.telemetry.health()
            self._answer(status, "application/json", json.dumps(body).encode())
        elif path != "/metrics":
            self._refuse(HTTPStatus.NOT_FOUND, "there are /health and /metrics")
        elif self._is_authorized():
            self._metrics(self.server.telemetry.registry)
        else:
            self._refuse(HTTPStatus.UNAUTHORIZED, "a bearer token is needed")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes and scrapes are too frequent to log."""

    def _metrics(self, registry: CollectorRegistry) -> None:
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(self.headers.get("Accept") or "")
        self._answer(HTTPStatus.OK, content_type, encode(registry))

    def _is_authorized(self) -> bool:
        token = self.server.telemetry.token
        given = self.headers.get("Authorization") or ""
        return not token or hmac.compare_digest(given.encode(), f"Bearer {token}".encode())

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        self._answer(status, "application/json", json.dumps({"detail": detail}).encode())

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
