"""Workers and clients for the acceptance tests."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from tests.clients import Client
from tests.servers import Server
from tests.workers import Worker, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import Browser

NULL_MODELS = {
    "null-text": {"kind": "text", "backend": "legit_embedding.models.null:NullModel", "default": True},
    "null-image": {"kind": "image", "backend": "legit_embedding.models.null:NullModel", "default": True},
}
SLOW_TEXTS = {"null-text": NULL_MODELS["null-text"] | {"max_batch": 16, "options": {"item_s": 0.002}}}
"""A model that takes 2 ms per text: a thousand of them are under way for two seconds."""
TEST_TASKS = {"CELERY_CONFIG_MODULE": "tests.profile"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is neither chromium nor google-chrome on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


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


@pytest.fixture(scope="module")
def shared_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of a module's own: nothing empties it between its tests."""
    with Server("valkey", tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest.fixture(scope="module")
def shared_models() -> dict[str, Any]:
    """The models of `shared_worker`; for a module to replace."""
    return NULL_MODELS


@pytest.fixture(scope="module")
def shared_args() -> Sequence[str]:
    """What the command of `shared_worker` ends with; for a module to replace."""
    return ()


@pytest.fixture(scope="module")
def shared_config() -> dict[str, Any]:
    """More settings of `shared_worker`; for a module to replace."""
    return {}


@pytest.fixture(scope="module")
def shared_worker(
    shared_url: str,
    shared_models: dict[str, Any],
    shared_config: dict[str, Any],
    shared_args: Sequence[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worker]:
    """One ready worker for all the tests of a module: three seconds of a core go into starting each."""
    directory = tmp_path_factory.mktemp("worker")
    with Worker(
        shared_url, directory, {"models": shared_models} | shared_config, args=shared_args, env=TEST_TASKS
    ) as worker:
        yield worker.wait_ready()


@pytest.fixture
def shared_client(shared_url: str, shared_worker: Worker) -> Iterator[Client]:
    """A client of the module's worker, which has nothing to do; what it has answered so far is gone."""
    assert shared_worker.running
    client = Client(shared_url)
    wait_for(lambda: client.redis.hlen("unacked") == 0, 30, "the module's worker to have nothing to do")
    client.redis.delete("embedding_results")
    yield client
    client.close()
