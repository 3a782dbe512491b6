"""The embedding tasks in somebody else's Celery application."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import NULL_MODELS
from tests.clients import PREPARE_TEXT, Client
from tests.servers import Server
from tests.workers import ROOT, Worker, to_toml, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MYAPP = """
from celery import Celery, shared_task

app = Celery("myapp", broker={url!r}, backend={url!r}, include=["legit_embedding.preparation"])
app.conf.task_default_queue = "shop"


@shared_task
def add(x, y):
    return x + y


@app.task
def embed(text):
    from legit_embedding.preparation import prepare_text

    return prepare_text.delay(task_id=text, text=text).id
"""


@pytest.fixture(scope="module")
def folder(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `myapp.py` in it, on the import path of whoever runs there."""
    folder = tmp_path_factory.mktemp("myapp")
    (folder / "myapp.py").write_text(MYAPP.format(url=shared_url))
    return folder


def environment(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "CELERY_CONFIG_MODULE": ""}


@pytest.fixture(scope="module")
def worker(shared_url: str, folder: Path) -> Iterator[Worker]:
    command = ("-m", "celery", "-A", "myapp", "worker", "--pool=gpubatch")
    with Worker(shared_url, folder / "w", {"models": NULL_MODELS}, command=command, env=environment(folder)) as worker:
        yield worker.wait_ready()


@pytest.fixture
def client(shared_url: str, worker: Worker) -> Iterator[Client]:
    client = Client(shared_url)
    client.app.conf.task_default_queue = "shop"
    yield client
    client.close()


def run(folder: Path, script: str, url: str | None = None) -> str:
    """What a Python program of the user's prints."""
    (folder / "legit.toml").write_text(to_toml({"redis_url": url} if url else {}))
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LEGIT_", "CELERY_"))}
    env |= environment(folder) | {"LEGIT_CONFIG": str(folder / "legit.toml")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_worker_takes_both_kinds_of_tasks_and_the_stream(client):
    client.redis.xadd("embedding_tasks", {"payload": json.dumps({"task_id": "streamed", "text": "x"})})
    assert client.send(PREPARE_TEXT, {"task_id": "queued", "text": "x"}).get(timeout=20)["status"] == "ok"
    assert client.send("myapp.add", 1, 2).get(timeout=20) == 3
    answers = client.answers(["streamed", "queued"])
    assert {answers[each]["status"] for each in ("streamed", "queued")} == {"ok"}


def test_delay_in_a_task_of_the_application_goes_to_its_queue(client):
    client.send("myapp.embed", "delayed").get(timeout=20)
    assert client.answers(["delayed"])["delayed"]["status"] == "ok"


def test_delay_in_a_producer_goes_to_its_application(client, folder):
    script = (
        "import myapp\n"
        "from legit_embedding.preparation import prepare_text\n"
        "from celery import current_app\n"
        "assert current_app.main == 'myapp', current_app.main\n"
        "print(prepare_text.delay({'task_id': 'produced', 'text': 'x'}).get(timeout=20)['status'])\n"
        "print(myapp.add.delay(2, 3).get(timeout=20))\n"
    )
    assert run(folder, script).split() == ["ok", "5"]
    assert client.answers(["produced"])["produced"]["status"] == "ok"


@pytest.mark.parametrize("first", ["legit_embedding.preparation", "legit_embedding.celery"])
def test_importing_the_tasks_leaves_the_current_application_alone(folder, shared_url, first):
    script = (
        f"import {first}\n"
        "import myapp\n"
        "import legit_embedding.embedding, legit_embedding.celery\n"
        "from celery import current_app\n"
        "print(current_app.main, myapp.add.app.main)\n"
    )
    assert run(folder, script) == "myapp myapp"


def test_without_an_application_the_tasks_are_the_packages_own(folder, shared_url):
    script = (
        "from legit_embedding.preparation import prepare_text\n"
        "print(prepare_text.app.main, prepare_text.app.conf.task_default_queue, prepare_text.app.conf.broker_url)\n"
    )
    assert run(folder, script, shared_url) == f"legit_embedding embedding {shared_url}"


def test_an_application_that_was_finished_before_the_import_has_the_tasks_too(folder, shared_url):
    script = (
        "import myapp\n"
        "myapp.app.finalize()\n"
        "from legit_embedding.preparation import prepare_text\n"
        "print(prepare_text.app.main, len(myapp.app.steps['worker']))\n"
    )
    assert run(folder, script) == "myapp 1"


def test_a_worker_made_in_python_needs_no_import(folder, shared_url):
    script = (
        "from celery import Celery\n"
        f"app = Celery('plain', broker={shared_url!r})\n"
        "worker = app.Worker(pool='gpubatch')\n"
        "print(worker.pool_cls.__module__, worker.pool_cls.__name__)\n"
    )
    assert run(folder, script) == "legit_embedding.pool.gpubatch TaskPool"


def stopped(worker: Worker) -> list[str]:
    with worker:
        assert worker.wait(60) != 0
        return [line for line in worker.log.splitlines() if "legit_embedding cannot start" in line]


@pytest.mark.parametrize(
    "options",
    [
        {"command": ("-m", "celery", "-A", "legit_embedding", "worker", "--pool=prefork")},
        {"command": ("-m", "celery", "-A", "legit_embedding", "worker"), "env": {"CELERY_WORKER_POOL": "prefork"}},
    ],
    ids=["named", "in the environment"],
)
def test_prefork_is_refused_in_one_line(shared_url, tmp_path, options):
    worker = Worker(shared_url, tmp_path / "w", {"models": NULL_MODELS}, **options)
    [reason] = stopped(worker)
    assert "prefork" in reason
    assert "--pool=gpubatch" in reason
    assert "Traceback" not in worker.log


def test_a_prefork_worker_puts_embedding_tasks_back(folder, tmp_path):
    """It runs the application's other tasks, and loads no model."""
    command = ("-m", "celery", "-A", "myapp", "worker", "--pool=prefork", "-c", "1")
    with Server("valkey", tmp_path / "valkey") as server:
        url = server.url
        here = tmp_path / "myapp"
        here.mkdir()
        (here / "myapp.py").write_text(MYAPP.format(url=url))
        client = Client(url)
        client.app.conf.task_default_queue = "shop"
        with Worker(url, here / "w", {"models": NULL_MODELS}, command=command, env=environment(here)) as worker:
            worker.wait_ready()
            client.send(PREPARE_TEXT, {"task_id": "put back", "text": "x"})
            worker.wait_for_log("was put back, because each process of the prefork pool")
            assert client.send("myapp.add", 1, 2).get(timeout=30) == 3
            worker.stop()
        wait_for(lambda: client.redis.llen("shop") == 1, 20, "the task to be in the queue again")
        assert not client.redis.exists("embedding_results")
        client.close()
