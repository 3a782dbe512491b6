"""A server's client, the command beside it, and HTTP doors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.door import MODELS, Served
from tests.unit.cli.invoking import Cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def client(any_redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(any_redis_url) as client:
        yield client


@pytest.fixture
def cli(any_redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(REDIS_URL=any_redis_url)


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Opens doors, of null models unless others are given; all are closed after the test."""
    made: list[Served] = []

    def serve(models: dict[str, Any] | None = None, *, start: bool = True, **http: Any) -> Served:
        made.append(Served(models or MODELS, http, start=start))
        return made[-1]

    yield serve
    for each in made:
        each.close()
