"""A RabbitMQ server of a test's own, on free ports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from kombu import Connection

from tests.servers import free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

# Debian's own command in /usr/sbin changes to the system's user and its directories.
PROGRAM = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin") or shutil.which("rabbitmq-server")


class RabbitMQ:
    """One broker, which keeps its durable queues from one `start` to the next. As a context manager it is started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._port, self._dist_port, self._epmd_port = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self.directory.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "ERL_EPMD_PORT": str(self._epmd_port),
            "HOME": str(self.directory),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_NODENAME": f"test{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
        }
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(PROGRAM)], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._answers, 90, "RabbitMQ to answer")

    def stop(self) -> None:
        """Stop it and whatever it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(60)
            self._process = None
            wait_for(self._ends_port_mapper, 20, "Erlang's port mapper to end")

    def _ends_port_mapper(self) -> bool:
        # It left the process group when it began, and stays while it knows of a node.
        command = ["epmd", "-port", str(self._epmd_port), "-kill"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.connect()
        except OSError:
            return False
        return True
