"""A prep-only worker in a container of its own, with and without a volume that both workers see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pytest_docker_tools import volume

from tests.containers.conftest import PREPARE_TEXT, Worker, worker_container
from tests.waiting import wait_for

if TYPE_CHECKING:
    from celery.result import AsyncResult
    from pytest_celery import CeleryTestSetup

pytestmark = pytest.mark.containers

SHARED = {"{handoffs.name}": {"bind": "/handoff", "mode": "rw"}}
PREP = ["celery", "-A", "legit_embedding", "worker", "--pool=threads", "-Q", "prep", "-n", "prep@%h", "-l", "INFO"]


@pytest.fixture
def prep_env(default_worker_env: dict[str, str]) -> dict[str, str]:
    return default_worker_env | {"CELERY_CONFIG_MODULE": "celeryconfig.prep_only"}


@pytest.fixture
def shared_prep_env(prep_env: dict[str, str]) -> dict[str, str]:
    return prep_env | {"LEGIT_HANDOFF_DIR": "/handoff"}


@pytest.fixture
def shared_worker_env(default_worker_env: dict[str, str]) -> dict[str, str]:
    return default_worker_env | {"LEGIT_HANDOFF_DIR": "/handoff"}


# As docs/containers.md makes it: in memory, of a given size.
handoffs = volume(driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=64m,mode=1777"})
apart = worker_container(command=PREP, environment="prep_env")
preparing = worker_container(command=PREP, environment="shared_prep_env", volumes=SHARED)
computing = worker_container(environment="shared_worker_env", volumes=SHARED)


def prepared(setup: CeleryTestSetup) -> AsyncResult:
    return setup.app.send_task(PREPARE_TEXT, args=({"task_id": "1", "text": "a red bicycle"},), queue="prep")


def is_well(worker: Worker) -> bool:
    code, said = worker.exec_run(["legit-embedding", "health"])
    return code == 0 and b"prep@" in said and b"(prep-only) is running" in said


def test_without_a_shared_folder_its_hand_offs_are_refused(celery_setup: CeleryTestSetup, apart: Worker) -> None:
    with pytest.raises(Exception, match=r"handoff_refused.* is not there: finished already, or from another machine"):
        prepared(celery_setup).get(timeout=60)


def test_one_shared_volume_is_enough_and_its_health_check_knows_its_role(
    celery_setup: CeleryTestSetup, preparing: Worker, computing: Worker
) -> None:
    celery_setup.worker.kill()  # it does not see the volume
    assert prepared(celery_setup).get(timeout=60)["status"] == "ok"
    wait_for(lambda: is_well(preparing), 60, "the health check to be green", interval=1)
