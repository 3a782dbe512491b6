"""The built image as pytest-celery's worker container, and a Redis with an append-only file as its broker.

`./scripts/test-containers` runs these tests in an environment of their own; the suite leaves this folder out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pytest_celery import CeleryTestSetup, CeleryWorkerContainer, RedisContainer, RedisTestBroker
from pytest_docker_tools import container, fxtr

from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery
    from redis import Redis

IMAGE = os.environ.get("LEGIT_IMAGE", "legit-embedding:test")
PREPARE_TEXT = "legit_embedding.preparation.prepare_text"
READY_S = 180
"""How long a worker may take to be ready: a busy machine takes more than a minute to import torch."""
SHOP = Path(__file__).parent / "shop"
READ_ONLY = {"user": "12345:0", "read_only": True, "tmpfs": {"/tmp": ""}, "cap_drop": ["ALL"]}


class Broker(RedisContainer):
    """Redis, at the address that reaches it: the plugin names ``localhost`` even from within a container."""

    @classmethod
    def command(cls, *args: str, **kwargs: Any) -> list[str]:  # the image's entrypoint is the server itself
        return ["--appendonly", "yes", "--appendfsync", "always", *args]

    @classmethod
    def image(cls) -> str:
        return "redis:7-bookworm"

    @property
    def host_url(self) -> str:
        host, port = self.get_addr("6379/tcp")
        return f"redis://{host}:{port}/{self.vhost}"


class Worker(CeleryWorkerContainer):
    """The image's own command: the plugin's would name an application ``app``."""

    @classmethod
    def command(cls, *args: str, **kwargs: Any) -> list[str]:
        worker = ["celery", "-A", "legit_embedding", "worker", "--pool=gpubatch", "--loglevel=INFO", "-n", "gpu1@%h"]
        return [*worker, *args]

    @property
    def ready_prompt(self) -> str:
        return " ready."

    @classmethod
    def worker_queue(cls) -> str:
        return "embedding"

    def _wait_ready(self, timeout: int = READY_S) -> bool:
        return super()._wait_ready(timeout)

    @property
    def exit_code(self) -> int | None:
        """The exit code; None while it runs."""
        self.reload()
        return self.attrs["State"]["ExitCode"] if self.status == "exited" else None


class Setup(CeleryTestSetup):
    """A producer whose results are where its messages are."""

    @classmethod
    def update_app_config(cls, app: Celery) -> None:
        app.conf.update(result_backend=app.conf.broker_url, task_default_queue="embedding")


def worker_container(
    command: list[str] | None = None,
    environment: str = "default_worker_env",
    volumes: dict[str, Any] | None = None,
) -> Any:
    """A fixture of a ready worker; `environment` is the fixture of its variables."""
    # Nothing is mounted at /app, where the plugin's own volume would hide the image's profiles.
    return container(
        image=IMAGE,
        command=command or fxtr("default_worker_command"),
        environment=fxtr(environment),
        network="{default_pytest_celery_network.name}",
        volumes={str(SHOP): {"bind": "/shop", "mode": "ro"}} | (volumes or {}),
        wrapper_class=Worker,
        timeout=READY_S,
        **READ_ONLY,
    )


default_redis_broker = container(
    image="redis:7-bookworm",
    command=fxtr("default_redis_broker_command"),
    ports=fxtr("default_redis_broker_ports"),
    network="{default_pytest_celery_network.name}",
    wrapper_class=Broker,
    timeout=60,
)
default_worker_container = worker_container()
next_worker_container = worker_container()


@pytest.fixture
def default_redis_broker_cls() -> type[Broker]:
    return Broker


@pytest.fixture
def default_worker_container_cls() -> type[Worker]:
    return Worker


@pytest.fixture
def celery_setup_cls() -> type[Setup]:
    return Setup


@pytest.fixture
def celery_broker(celery_redis_broker: RedisTestBroker) -> RedisTestBroker:
    return celery_redis_broker


@pytest.fixture
def celery_backend_cluster() -> None:
    """The broker holds the results too."""


@pytest.fixture
def default_worker_env(celery_broker_cluster_config: dict[str, Any]) -> dict[str, str]:
    return {
        "LEGIT_CONFIG": "/shop/legit.toml",
        "LEGIT_REDIS_URL": celery_broker_cluster_config["urls"][0],
        "CELERY_CONFIG_MODULE": "shop_profile",
        "PYTHONPATH": "/shop",
        "HF_HUB_OFFLINE": "1",
    }


@pytest.fixture
def redis(celery_setup: CeleryTestSetup) -> Redis:
    """A client of the broker's server, whose values are text."""
    return celery_setup.broker.container.client


@pytest.fixture
def answers(redis: Redis) -> Callable[[set[str]], list[dict[str, str]]]:
    """Waits until each of these task ids is answered, and returns every answer there is."""

    def wait(task_ids: set[str]) -> list[dict[str, str]]:
        def entries() -> list[dict[str, str]]:
            return [fields for _, fields in redis.xrange("embedding_results")]

        wait_for(lambda: task_ids <= {each["task_id"] for each in entries()}, 120, f"{len(task_ids)} answers")
        return entries()

    return wait


@pytest.fixture(autouse=True)
def _log_of_a_failure(request: pytest.FixtureRequest, celery_setup: CeleryTestSetup) -> Iterator[None]:
    yield
    print(celery_setup.worker.logs()[-5000:])
