"""A remote that does what a test asks, and a processor for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from legit_embedding.config import ModelConfig, RemoteConfig
from legit_embedding.redis_io.connection import Backoff
from legit_embedding.remote import breaker, lane
from legit_embedding.remote.model import RemoteModel
from legit_embedding.remote.processor import RemoteProcessor
from tests.remotes import Remote
from tests.unit.remote.deliveries import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["http", "openai", "ollama"])
def any_remote(request: pytest.FixtureRequest) -> Iterator[Remote]:
    with Remote(request.param) as remote:
        yield remote


@pytest.fixture
def remote() -> Iterator[Remote]:
    with Remote() as remote:
        yield remote


@pytest.fixture
def make_processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RemoteProcessor]]:
    """Make a processor of one remote model; settings by name."""
    made: list[RemoteProcessor] = []
    monkeypatch.setattr(breaker.Breaker.__init__, "__defaults__", (Backoff(0.05, 0.3),))
    monkeypatch.setattr(lane, "PAUSES", Backoff(0.02, 0.2))

    def make(remote: Remote, **settings: Any) -> RemoteProcessor:
        config = ModelConfig(**({"kind": "text", "backend": remote.backend, "base_url": remote.url} | settings))
        processor = RemoteProcessor({NAME: RemoteModel(NAME, config)}, RemoteConfig(), 4096)
        made.append(processor)
        processor.start()
        return processor

    yield make
    for processor in made:
        processor.close(give_back=True, timeout=0.1)
