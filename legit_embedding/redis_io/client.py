"""The factory of all Redis clients, for threads and for event loops."""

from __future__ import annotations

from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any, cast

import redis
from redis import asyncio as redis_asyncio
from redis import sentinel
from redis.asyncio import sentinel as async_sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, ClusterPipeline
from redis.connection import UnixDomainSocketConnection
from redis.exceptions import ReadOnlyError, RedisClusterException
from redis.retry import Retry

from legit_embedding.redis_io.server_id import greet_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from legit_embedding.redis_io.address import RedisAddress

CONNECT_TIMEOUT_S = 5.0
SENTINEL_TIMEOUT_S = 1.0
"""The longest that one Sentinel may take to answer before the next one is asked, in seconds."""
SENTINEL_RETRIES = 1
"""Retries per Sentinel, for stale idle connections; an unreachable Sentinel costs no time, as the next is asked."""


def make_client(
    address: RedisAddress,
    timeout_s: float,
    *,
    least_timeout_s: float = 0.0,
    retries: int = 0,
    on_connect: Callable[[redis.connection.AbstractConnection], None] | None = None,
) -> redis.Redis:
    """Make a client that has not connected yet; its replies are bytes.

    Args:
        address: the server; with Sentinels, the master is looked up again after a failover. In a cluster each command
            goes to the node of its key, and a pipeline's commands to several.
        timeout_s: how long the server may take to answer, in seconds; the address's own ``socket_timeout`` wins.
        least_timeout_s: a lower bound on the timeout, for a client that blocks, in seconds.
        retries: how often a failed command is sent again. Repeating an XADD would add a second task.
        on_connect: greets the server over each new connection instead of redis-py.
    """
    options = _options(address, timeout_s) | {"retry": Retry(NoBackoff(), retries), "redis_connect_func": on_connect}
    options["socket_timeout"] = max(options["socket_timeout"], least_timeout_s)
    if address.service:
        return _master(address, options)
    if address.is_cluster:
        return cast("redis.Redis", _cluster(address, options))
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=_connection_class(address), **options))


def make_async_pool(address: RedisAddress, timeout_s: float) -> redis_asyncio.ConnectionPool:
    """Make a connection pool for one event loop; it is not connected yet, and sends no command twice.

    Its connections know their servers (`server_id.server_of`).

    Args:
        address: as for `make_client`; of a cluster, the first node.
        timeout_s: as for `make_client`.
    """
    options = _options(address, timeout_s) | {"retry": AsyncRetry(NoBackoff(), 0), "redis_connect_func": greet_async}
    if address.service:
        known = sentinel_options(address) | {"retry": AsyncRetry(NoBackoff(), SENTINEL_RETRIES)}
        manager = async_sentinel.Sentinel(
            address.hosts, min_other_sentinels=address.min_other_sentinels, sentinel_kwargs=known
        )
        is_tls = address.tls is not None
        return _AsyncSentinelPool(address.service, manager, ssl=is_tls, **options)  # type: ignore[no-untyped-call]
    kinds = redis_asyncio.UnixDomainSocketConnection, redis_asyncio.SSLConnection, redis_asyncio.Connection
    chosen = kinds[0] if address.path else kinds[1] if address.tls is not None else kinds[2]
    return redis_asyncio.ConnectionPool(connection_class=chosen, **options)


def sentinel_options(address: RedisAddress) -> dict[str, Any]:
    """redis-py's options for the synchronous client of one Sentinel."""
    wanted = {
        "retry": Retry(NoBackoff(), SENTINEL_RETRIES),
        "socket_timeout": SENTINEL_TIMEOUT_S,
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "username": address.sentinel_username,
        "password": address.sentinel_password,
    }
    tls = {} if address.tls is None else {"ssl": True, **address.tls}
    return {name: value for name, value in wanted.items() if value is not None} | tls


def _options(address: RedisAddress, timeout_s: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "db": address.db,
        "username": address.username,
        "password": address.password,
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, CONNECT_TIMEOUT_S),
        **address.connection,
        **(address.tls or {}),
    }
    if address.path:
        options["path"] = address.path
        options.pop("socket_keepalive", None)
    elif not address.service:
        options["host"], options["port"] = address.hosts[0]
    return options


class _LeavesReplica:
    """Drops a connection to a server that has become a replica, so that the next command connects anew."""

    def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - redis-py's own
        """Read a response as redis-py does, disconnecting on a read-only error."""
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ReadOnlyError:
            self.disconnect()  # type: ignore[attr-defined]
            raise


class _Connection(_LeavesReplica, redis.Connection):
    pass


class _TlsConnection(_LeavesReplica, redis.SSLConnection):
    pass


_LEAVING: dict[type, type] = {redis.Connection: _Connection, redis.SSLConnection: _TlsConnection}


def leave_replicas(pool: redis.ConnectionPool) -> None:
    """Let the connections that a pool makes from now on be dropped once their server has become a replica.

    Args:
        pool: anybody's. One whose connections are of another kind stays as it is, as Sentinel's do it themselves.
    """
    pool.connection_class = _LEAVING.get(pool.connection_class, pool.connection_class)


def _connection_class(address: RedisAddress) -> type[redis.connection.AbstractConnection]:
    if address.path:
        return UnixDomainSocketConnection
    return _Connection if address.tls is None else _TlsConnection


def _master(address: RedisAddress, options: dict[str, Any]) -> redis.Redis:
    known, least = sentinel_options(address), address.min_other_sentinels
    manager = sentinel.Sentinel(address.hosts, min_other_sentinels=least, sentinel_kwargs=known)
    is_tls = address.tls is not None
    pool = _SentinelPool(address.service, manager, ssl=is_tls, **options)  # type: ignore[no-untyped-call]
    return redis.Redis.from_pool(pool)


def _cluster(address: RedisAddress, options: dict[str, Any]) -> redis.RedisCluster:
    # What is known of one node and not of the others: the cluster's client connects to each that it learns of.
    for name in ("host", "port", "db"):
        del options[name]
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    # The nodes of the address are asked too when those that were found are gone, as after a restart on other machines.
    return _ClusterClient(startup_nodes=nodes, ssl=address.tls is not None, dynamic_startup_nodes=False, **options)


@contextmanager
def _reached() -> Iterator[None]:
    """Make a redis-py error of those that its cluster client has beside them."""
    try:
        yield
    except RedisClusterException as error:
        raise redis.ConnectionError(*error.args) from error


class _ClusterPipeline(ClusterPipeline):
    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _reached():
            return super().execute(raise_on_error)


class _ClusterClient(redis.RedisCluster):
    """redis-py's client, made without connecting; a cluster that cannot be reached is a `ConnectionError`."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - redis-py's own, here and below
        self._options = options
        self._connected = False
        self._connecting = RLock()  # which lets a connecting client ask the server for its commands

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("_"):
            raise AttributeError(name)
        with _reached():
            self._connect()
        return object.__getattribute__(self, name)

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        with _reached():
            self._connect()
            return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool | None = None, shard_hint: Any = None) -> ClusterPipeline:  # noqa: ANN401
        with _reached():
            self._connect()
            pipeline: ClusterPipeline = super().pipeline(transaction, shard_hint)  # type: ignore[no-untyped-call]
        pipeline.__class__ = _ClusterPipeline
        return pipeline

    def close(self) -> None:
        if self._connected:
            super().close()

    def _connect(self) -> None:
        with self._connecting:
            if not self._connected:
                self._connected = True
                try:
                    super().__init__(**self._options)
                except BaseException:
                    self._connected = False
                    raise


class _SentinelPool(sentinel.SentinelConnectionPool):
    """A pool that closes its connections to the Sentinels too."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


class _AsyncSentinelPool(async_sentinel.SentinelConnectionPool):
    """A pool that closes its connections to the Sentinels too."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.aclose()
