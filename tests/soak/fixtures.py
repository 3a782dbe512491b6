"""Fixtures of the acceptance tests of the task stream; a test module imports those that it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from tests.servers import ServerKind, available_kinds
from tests.soak import SEED
from tests.soak.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=available_kinds())
def workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three workers on a server of each kind in turn, for all the tests of a module."""
    with Fleet(cast("ServerKind", request.param), tmp_path_factory.mktemp("fleet"), seed=SEED) as fleet:
        yield fleet


@pytest.fixture
def fleet(workers: Fleet) -> Iterator[Fleet]:
    """The same workers, all of them ready, on empty streams."""
    print(f"seed {SEED}")
    yield workers.ready()
    for worker in workers.workers:
        print(f"--- {worker.log_file}\n{worker.log_tail()}")
