"""A Redis Cluster of three masters, each with a replica: real processes on free ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.redis_io.client import make_client
from legit_embedding.redis_io.slots import slot
from tests.servers import Server, available_kinds, free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    import redis

MASTERS = 3
SLOTS = 16_384
PASSWORD = "of-the-cluster"
OPTIONS = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0"),
    *("--requirepass", PASSWORD, "--masterauth", PASSWORD),
)


class Cluster:
    """Six servers, of which three share the slots and three are their replicas."""

    def __init__(self, directory: Path) -> None:
        self.servers: list[Server] = []
        self._buses: list[int] = []
        for number in range(2 * MASTERS):
            bus = free_port()
            options = (*OPTIONS, "--cluster-port", str(bus))
            server = Server(available_kinds()[-1], directory / str(number), options=options)
            server.url = f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"
            self.servers.append(server)
            self._buses.append(bus)
        self.url = self.url_of(self.servers[:MASTERS])

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        for server in self.servers:
            server.kill()

    @staticmethod
    def url_of(servers: Sequence[Server]) -> str:
        """The cluster's address that names some of its nodes."""
        return f"redis+cluster://:{PASSWORD}@" + ",".join(f"127.0.0.1:{server.port}" for server in servers)

    def client(self) -> redis.Redis:
        """A client of the whole cluster that outlives a failover; replies are bytes."""
        return make_client(RedisAddress.of(self.url), 5, retries=5)

    def master(self, key: str) -> Server:
        """The server that has the slot of this key, according to a majority of the nodes that run."""
        return max(self.servers, key=self._owners(key).count)

    def has_moved(self, key: str, before: Server) -> bool:
        """True if every node that runs names one master for this key, another than before: a client may ask any."""
        owners = set(self._owners(key))
        return len(owners) == 1 and not owners & {None, before}

    def replica(self, key: str) -> Server:
        """The replica of that server."""
        mine = self._id(self.master(key))
        (found,) = (each for each in self._running() if self._master_id(each) == mine)
        return found

    def flush(self) -> None:
        """Make every server run, and empty them."""
        self.restore()
        for server in self.servers:
            with server.client() as client:
                if client.info("replication")["role"] == "master":
                    client.flushall()

    def restore(self) -> None:
        """Start what a test has killed, and wait until all is well and every master has its replica."""
        for server in self.servers:
            server.restore()
        wait_for(self._is_well, 60, "a cluster that is well")

    def redirections(self, error: str) -> int:
        """How often the nodes that run have answered ``MOVED`` or ``ASK``, by their own statistics."""
        found = 0
        for server in self._running():
            with server.client() as client:
                found += client.info("errorstats").get(f"errorstat_{error}", {"count": 0})["count"]
        return found

    def begin_move(self, key: str, to: Server) -> None:
        """Open the slot of this key on both sides: what is not at its old place any more is asked for at the new."""
        at = self.master(key)
        self.cluster(to, "SETSLOT", slot(key), "IMPORTING", self._id(at))
        self.cluster(at, "SETSLOT", slot(key), "MIGRATING", self._id(to))

    def move_key(self, key: str, to: Server) -> None:
        """Move one key of an open slot."""
        with self.master(key).client() as client:
            client.execute_command("MIGRATE", "127.0.0.1", to.port, key, 0, 10_000, "AUTH", PASSWORD)

    def end_move(self, key: str, to: Server) -> None:
        """Move what is left in the slot, and close it on both sides."""
        at = self.master(key)
        with at.client(decode_responses=False) as client:
            while keys := client.execute_command("CLUSTER", "GETKEYSINSLOT", slot(key), 100):
                to_there = ("127.0.0.1", to.port, "", 0, 10_000, "AUTH", PASSWORD)
                client.execute_command("MIGRATE", *to_there, "KEYS", *keys)
        for server in (to, at):
            self.cluster(server, "SETSLOT", slot(key), "NODE", self._id(to))
        wait_for(lambda: set(self._owners(key)) == {to}, 20, "the slot's new place")

    def cluster(self, server: Server, *command: str | int) -> Any:
        """Send a CLUSTER command to one server."""
        with server.client() as client:
            return client.execute_command("CLUSTER", *command)

    def _make(self) -> None:
        masters, replicas = self.servers[:MASTERS], self.servers[MASTERS:]
        share = -(-SLOTS // MASTERS)
        for number, server in enumerate(self.servers):
            server.start()
            self.cluster(server, "SET-CONFIG-EPOCH", number + 1)
        for number, server in enumerate(masters):
            self.cluster(server, "ADDSLOTSRANGE", number * share, min(SLOTS, (number + 1) * share) - 1)
        for server, bus in zip(self.servers[1:], self._buses[1:], strict=True):
            self.cluster(self.servers[0], "MEET", "127.0.0.1", server.port, bus)
        wait_for(lambda: all(map(self._knows_all, self.servers)), 20, "the nodes to know each other")
        for master, replica in zip(masters, replicas, strict=True):
            self.cluster(replica, "REPLICATE", self._id(master))
        wait_for(self._is_well, 30, "a cluster that is well")

    def _running(self) -> list[Server]:
        return [server for server in self.servers if server.running]

    def _id(self, server: Server) -> str:
        return str(self.cluster(server, "MYID"))

    def _nodes(self, server: Server) -> list[list[str]]:
        """Every node that a server knows: id, address, flags, master's id, ..."""
        with server.client(decode_responses=False) as client:
            reply = client.execute_command("CLUSTER", "NODES")
        return [line.split() for line in reply.decode().splitlines()]

    def _master_id(self, server: Server) -> str:
        (myself,) = (node for node in self._nodes(server) if "myself" in node[2])
        return myself[3]

    def _knows_all(self, server: Server) -> bool:
        return len(self._nodes(server)) == len(self.servers)

    def _is_well(self) -> bool:
        for server in self.servers:
            with server.client() as client:
                if client.cluster("INFO")["cluster_state"] != "ok":
                    return False
                state = client.info("replication")
                is_whole = (
                    state["connected_slaves"] == 1 if state["role"] == "master" else state["master_link_status"] == "up"
                )
                if not is_whole:
                    return False
        return True

    def _owners(self, key: str) -> list[Server | None]:
        return [self._owner(server, slot(key)) for server in self._running()]

    def _owner(self, server: Server, number: int) -> Server | None:
        """The server that has this slot, as one of them sees it."""
        with server.client(decode_responses=False) as client:
            for first, last, master, *_ in client.execute_command("CLUSTER", "SLOTS"):
                if first <= number <= last:
                    return next(each for each in self.servers if each.port == master[1])
        return None
