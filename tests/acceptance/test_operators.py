"""What an operator is told of real workers."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from tests.acceptance.conftest import TEST_TASKS
from tests.clients import PREPARE_TEXT
from tests.unit.cli.invoking import Cli
from tests.workers import COMMAND, Worker, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients import Client


def health(cli: Cli, *arguments: str) -> Any:
    """The health that is shown; None while there is none."""
    return json.loads(cli("health", "--json", *arguments).stdout)


def test_tasks_in_a_queue_that_nobody_reads_are_told_of(
    make_worker: Callable[..., Worker], client: Client, redis_url: str
) -> None:
    task = {"task_id": "lost", "text": "sent without a queue"}
    client.send("tests.tasks.add", 1, 1, queue="photos")
    client.app.send_task(PREPARE_TEXT, args=[task], queue="celery")
    with make_worker(args=("-n", "gpu1@%h")) as worker:
        worker.wait_ready()
        said = f"1 message waits in the queue 'celery', which no worker reads, {PREPARE_TEXT} among them"
        worker.wait_for_log(said)
        cli, name = Cli(REDIS_URL=redis_url), f"gpu1@{socket.gethostname()}"
        shown = wait_for(lambda: (found := health(cli)) and found["warning"] and found, 20, "the warning in health")
        assert (shown["worker"], shown["healthy"], shown["role"]) == (name, True, "")
        assert shown["warning"].startswith(said)
        assert "-Q embedding,celery" in shown["warning"]
        assert worker.log.count("which no worker reads") == 1
        client.app.control.add_consumer("celery", reply=True)
        assert client.answers(["lost"])["lost"]["status"] == "ok"


def test_a_prep_only_worker_shows_itself_before_its_first_task(redis_url: str, tmp_path: Path) -> None:
    null = {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}
    config = {"models": {"m": null}, "handoff_dir": str(tmp_path / "handoffs")}
    command = (*COMMAND[:-1], "--pool=threads", "-Q", "prep", "-n", "prep@%h")
    profile = TEST_TASKS | {"CELERY_CONFIG_MODULE": "legit_embedding.profiles.prep_only"}
    with Worker(redis_url, tmp_path / "prep", config, command=command, env=profile) as worker:
        worker.wait_ready()
        cli = Cli(REDIS_URL=redis_url)

        def shown() -> Any:
            found = json.loads(cli("health", "--all", "--json", code=None).stdout)
            return found if found[0]["state"] == "running" else None

        (found,) = wait_for(shown, 20, "it to show itself")
        assert (found["worker"], found["role"]) == (f"prep@{socket.gethostname()}", "prep-only")
        assert cli("health").stdout.endswith("(prep-only) is running\n")
        assert worker.stop() == 0
