"""HTTP as a source: a server on a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from contextlib import suppress
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING

import uvicorn

from legit_embedding.errors import ConfigError
from legit_embedding.pipeline.protocols import SourceStats
from legit_embedding.redis_io.health import Health
from legit_embedding.sources.http.app import make_app
from legit_embedding.sources.http.broadcast import Broadcast
from legit_embedding.sources.http.door import Door
from legit_embedding.sources.http.flow import Flow
from legit_embedding.sources.http.patience import Patience
from legit_embedding.sources.http.protocol import KEEP_ALIVE_S, BoundedProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from legit_embedding.config import HttpConfig
    from legit_embedding.pipeline.pipeline import Pipeline

logger = logging.getLogger(__name__)

BACKLOG = 2048
TURN_S = 5.0
"""The time that a stop waits for a turn of the event loop, in seconds."""
FLUSH_S = 2
"""The time that a stop waits for answers on their way to clients, in seconds."""


class HttpSource:
    """Serves HTTP until it is closed.

    Args:
        pipeline: embeds what requests carry.
        state: returns the worker's state and its problems.

    Raises:
        ConfigError: the address cannot be listened on, or would be open to other hosts without a token.
    """

    name = "http"

    def __init__(self, pipeline: Pipeline, state: Callable[[], tuple[str, list[str]]]) -> None:
        config = pipeline.settings.http
        self._door = door = Door(pipeline)
        if door.is_open and not door.asks_for_token and not is_loopback(config.host):
            message = (
                f"http.host: {config.host} is open to other hosts: set http.token, or http.embed = false to serve "
                "health and metrics only"
            )
            raise ConfigError(message)
        # What failed may quote tasks: where anybody may look, only how often is shown.
        details = door.asks_for_token or is_loopback(config.host)
        self._flow = Flow(pipeline, state, embeds=door.is_open, details=details)
        self._broadcast = Broadcast(self._flow.look, self._flow.history)
        patience = Patience()
        self.app = make_app(pipeline, state, door, self._broadcast, patience.closed.copy)
        self._socket = _listen(config)
        self._started = Event()
        self._server = _Server(
            uvicorn.Config(
                self.app,
                http=partial(BoundedProtocol, patience=patience),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=config.max_connections,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=FLUSH_S,
            ),
            self._started,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Start the thread; requests are answered when this returns, with 503 until the models are loaded."""
        self._thread.start()
        self._started.wait()

    def wake(self) -> None:
        """Do nothing: requests that find no room are refused at once."""

    def stop_reading(self) -> None:
        """Wait until no item is being submitted: while the pipeline is not running the door refuses requests."""
        turned = Event()
        with suppress(RuntimeError):  # the loop has ended, or has not begun
            self._loop.call_soon_threadsafe(turned.set)
            turned.wait(TURN_S)

    def close(self, timeout: float) -> None:
        """Send the last answers, close all connections, and end the thread. Idempotent."""
        self._server.should_exit = True
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._broadcast.close)
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._flow.close()
        self._socket.close()

    def held(self) -> tuple[int, int]:
        """The items and the bytes that requests hold."""
        return self._door.allowance.items, self._door.allowance.size

    def alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    def health(self) -> Health:
        """Return that all is well: there is no link that could break."""
        return Health()

    def stats(self) -> SourceStats:
        """Return no counters: those are the task stream's."""
        return SourceStats()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._server.serve(sockets=[self._socket]))
        except BaseException:
            logger.critical("the HTTP server's thread ended", exc_info=True)
        finally:
            self._started.set()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, is_up: Event) -> None:
        super().__init__(config)
        self._is_up = is_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._is_up.set()


def is_loopback(host: str) -> bool:
    """Return True if only this host can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(config: HttpConfig) -> socket.socket:
    """Open the port.

    Raises:
        ConfigError: it cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # asyncio switches Nagle's algorithm off, which would hold each answer for 40 ms, only if the protocol is given.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((config.host, config.port))
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        message = f"http.port: cannot listen on {config.host}:{config.port}: {error.strerror or error}"
        raise ConfigError(message) from None
    return opened
