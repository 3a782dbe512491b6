"""Workers and clients for the acceptance tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.clients import Client
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NULL_MODELS = {
    "null-text": {"kind": "text", "backend": "legit_embedding.models.null:NullModel", "default": True},
    "null-image": {"kind": "image", "backend": "legit_embedding.models.null:NullModel", "default": True},
}
TEST_TASKS = {"CELERY_CONFIG_MODULE": "tests.profile"}


@pytest.fixture
def client(redis_url: str) -> Client:
    return Client(redis_url)


@pytest.fixture
def make_worker(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Makes workers with null models and the tests' ordinary tasks, not yet started; none outlives the test."""
    made: list[Worker] = []

    def make(config: dict[str, Any] | None = None, **options: Any) -> Worker:
        options.setdefault("env", TEST_TASKS)
        directory = tmp_path / f"worker-{len(made) + 1}"
        worker = Worker(redis_url, directory, {"models": NULL_MODELS} | (config or {}), **options)
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.kill()


@pytest.fixture
def null_worker(make_worker: Callable[..., Worker]) -> Iterator[Worker]:
    """A ready worker with null models."""
    with make_worker() as worker:
        yield worker.wait_ready()
