"""A server's client, and the command beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from tests.unit.cli.invoking import Cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def client(any_redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(any_redis_url) as client:
        yield client


@pytest.fixture
def cli(any_redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(REDIS_URL=any_redis_url)
