"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, cast

import pytest

from tests.clusters import Cluster
from tests.servers import Server, ServerKind, Servers, available_kinds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A shell ignores the interrupt for what it runs in the background, and every child process would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

collect_ignore = ["containers"]  # run by scripts/test-containers, in an environment of its own


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The session's servers, one of a kind."""
    servers = Servers(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.kill()


@pytest.fixture(scope="session", params=available_kinds())
def redis_server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """The session's server of each kind in turn."""
    return servers.get(cast("ServerKind", request.param))


@pytest.fixture
def any_redis_url(redis_server: Server, servers: Servers) -> str:
    """An empty database, on a server of each kind in turn."""
    return servers.flushed(redis_server.kind)


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """An empty database on Valkey."""
    return servers.flushed("valkey")


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The session's cluster; take `redis_cluster`."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def redis_cluster(session_cluster: Cluster) -> Cluster:
    """A cluster of three masters with a replica each, empty and well."""
    session_cluster.flush()
    return session_cluster


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A Valkey for this test alone; it keeps confirmed writes through `kill` and `start`."""
    with Server("valkey", tmp_path / "valkey", durable=True) as server:
        yield server
