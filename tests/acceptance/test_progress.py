"""What the literal command says at Celery's own log level."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.acceptance.conftest import TEST_TASKS
from tests.servers import free_port
from tests.workers import Worker, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients import Client

DEFAULT_LEVEL = TEST_TASKS | {"CELERY_WORKER_LOGLEVEL": "WARNING"}
READY = r"ready in \d+\.\d s: null-text and null-image on cpu, queues embedding, stream embedding_tasks"


def send_bad_tasks(client: Client, worker: Worker) -> None:
    worker.wait_for_log("ready in ")
    ids = [f"t-{number}" for number in range(5)]
    for task in ids:
        client.text("late", task_id=task, deadline=1)
    client.answers(ids)


def test_each_stage_is_a_line_and_errors_are_bounded(make_worker: Callable[..., Worker], client: Client) -> None:
    with make_worker(env=DEFAULT_LEVEL) as worker:
        send_bad_tasks(client, worker)
        worker.wait_for_log("ended in expired")
        concurrency, *said = [line.partition("] ")[2] for line in worker.log.splitlines() if line.startswith("[20")]
        assert concurrency.startswith("concurrency ")
        assert said[0].startswith("The device is cpu: ")
        assert said[1:3] == ["Loading null-text", "Loading null-image"]
        assert [line.partition(" (")[0] for line in said[3:5]] == [
            "Model null-text is ready",
            "Model null-image is ready",
        ]
        assert re.fullmatch(READY, said[5])
        assert len(said) == 7, said
        assert "ended in expired" in said[6]


def test_lines_of_json_keep_their_form(make_worker: Callable[..., Worker], client: Client) -> None:
    config: dict[str, Any] = {"telemetry": {"json_logs": True}}
    with make_worker(config, env=DEFAULT_LEVEL) as worker:
        send_bad_tasks(client, worker)
        worker.wait_for_log("ended in expired")
        said = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
        ready = next(line for line in said if line["message"].startswith("ready in "))
        assert (ready["level"], ready["logger"]) == ("INFO", "legit_embedding.progress")
        (expired,) = (line for line in said if line.get("code") == "expired")
        assert expired["level"] == "WARNING"


def test_a_retry_is_one_line(tmp_path: Path) -> None:
    config = {"models": {"m": {"kind": "text", "backend": "legit_embedding.models.null:NullModel"}}}
    with Worker(f"redis://127.0.0.1:{free_port()}/0", tmp_path, config, env=DEFAULT_LEVEL) as worker:
        wait_for(lambda: worker.log.count("Trying again in") > 1, 60, "two retries")
        retries = [line for line in worker.log.splitlines() if "Trying again in" in line]
        assert all("consumer: Cannot connect to redis://" in line for line in retries)
