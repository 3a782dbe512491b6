"""`legit-embedding health` and `top`, over what workers have published."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis

from legit_embedding.cli.shared.lazy import INTERRUPTED
from legit_embedding.telemetry import keys, scene
from legit_embedding.telemetry.place import place
from tests.unit.cli.invoking import Cli

if TYPE_CHECKING:
    from collections.abc import Iterator

BY_MODEL = {
    "clip": {
        "waiting": 3,
        "items": 90,
        "items_per_s": 30.0,
        "batch_size_avg": 9.0,
        "batch_fill": 0.5,
        "device_share": 0.9,
    }
}


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def cli(redis_url: str) -> Cli:
    return Cli(REDIS_URL=redis_url)


def show(client: redis.Redis, name: str, *, age: float = 1.0, **fields: Any) -> None:
    """Publish as a worker does."""
    now = client.time()[0]
    shown = {"state": "running", "problem": "", "started_at": now - 60, "items_per_s": 0, "in_flight": 0}
    client.hset(keys.worker(name), mapping=shown | {"by_model": json.dumps(BY_MODEL)} | fields)
    client.zadd(keys.WORKERS, {name: now - age})


class TestHealth:
    @pytest.mark.parametrize("state", ["starting", "unhealthy", "stopping"])
    def test_only_a_running_worker_is_well(self, cli: Cli, client: redis.Redis, state: str) -> None:
        show(client, "w", state=state, problem="a reason" if state == "unhealthy" else "")
        said = "w is unhealthy: a reason" if state == "unhealthy" else f"w is {state}"
        assert cli.failure("health", "--worker", "w") == said
        model = {"loaded": True, "last_ok_s": 1.5, "waiting": 2}
        show(client, "w", by_model=json.dumps({"minilm": model | {"items": 3}}))
        assert cli.json("health", "--worker", "w", "--json") == {
            "worker": "w",
            "healthy": True,
            "state": "running",
            "problem": "",
            "warning": "",
            "role": "",
            "models": {"minilm": model},
        }

    def test_the_workers_of_this_place_are_found_whatever_their_names(self, cli: Cli, client: redis.Redis) -> None:
        show(client, f"celery@{socket.gethostname()}", state="unhealthy", place="another container")
        show(client, "gpu1@somewhere", place=place())
        assert cli("health").stdout == "gpu1@somewhere is running\n"
        show(client, "prep@somewhere", place=place(), state="starting", role="prep-only")
        assert cli.failure("health") == "prep@somewhere (prep-only) is starting"
        checked = json.loads(cli("health", "--json", code=1).stdout)
        assert checked["worker"] == "prep@somewhere", "the one that is not well"

    def test_all_workers_are_checked_on_request(self, cli: Cli, client: redis.Redis) -> None:
        show(client, "a", place=place())
        show(client, "b", warning="something waits")
        checked = cli.json("health", "--all", "--json")
        assert [(each["worker"], each["healthy"], each["warning"]) for each in checked] == [
            ("a", True, ""),
            ("b", True, "something waits"),
        ]
        result = cli("health", "--all")
        assert result.stdout == "a is running\nb is running\n"
        assert result.stderr == "Warning of b: something waits\n"
        client.zadd(keys.WORKERS, {"gone": client.time()[0] - 60})
        assert "no worker 'gone' has shown itself lately" in cli("health", "--all", code=1).stderr

    def test_the_worker_of_this_host_is_the_default(self, cli: Cli, client: redis.Redis) -> None:
        show(client, f"celery@{socket.gethostname()}")
        cli("health")

    def test_the_node_name_of_the_environment_is_understood_as_celery_does(
        self, cli: Cli, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CELERY_WORKER_HOSTNAME", "embed@%h")
        show(client, f"embed@{socket.gethostname()}")
        cli("health")

    def test_one_that_died_is_not_well(self, cli: Cli, client: redis.Redis) -> None:
        client.zadd(keys.WORKERS, {"w": client.time()[0] - 60})
        assert cli.failure("health", "--worker", "w") == "no worker 'w' has shown itself lately; there are none"
        found = json.loads(cli("health", "--worker", "w", "--json", code=1).stdout)
        assert (found["healthy"], found["state"]) == (False, None)


class TestTop:
    def test_when_all_is_done(self, cli: Cli, client: redis.Redis) -> None:
        show(client, "a", items_per_s=30, in_flight=10)
        show(client, "b", items_per_s=20.5)
        for number in range(40):
            client.xadd("embedding_tasks", {"text": str(number)})
        client.rpush("embedding", *range(50))
        client.rpush("more", *range(100))
        scene = cli.json("top", "--once", "--json")
        assert (scene["items_per_s"], scene["waiting"], scene["in_flight"]) == (50.5, 90, 10)
        assert scene["empty_in_s"] == round(100 / 50.5, 1)
        assert cli.json("top", "--once", "--json", "--queue", "embedding", "--queue", "more")["waiting"] == 190
        assert [worker["worker"] for worker in scene["workers"]] == ["a", "b"]
        assert scene["workers"][0]["models"] == BY_MODEL

    def test_what_is_read_and_not_done_counts_once(self, cli: Cli, client: redis.Redis) -> None:
        show(client, "a", items_per_s=1, in_flight=2)
        client.xgroup_create("embedding_tasks", "embedding_workers", "0", mkstream=True)
        for number in range(5):
            client.xadd("embedding_tasks", {"text": str(number)})
        client.xreadgroup("embedding_workers", "a", {"embedding_tasks": ">"}, count=2)
        assert cli.json("top", "--once", "--json")["empty_in_s"] == 5.0

    def test_never_and_nothing(self, cli: Cli, client: redis.Redis) -> None:
        assert cli.json("top", "--once", "--json")["empty_in_s"] == 0.0
        assert "No worker has shown itself lately" in cli("top", "--once").stdout
        client.rpush("embedding", "x")
        assert cli.json("top", "--once", "--json")["empty_in_s"] is None
        assert "never at this rate" in cli("top", "--once").stdout

    def test_tables_show_who_is_unwell_and_who_is_gone(self, cli: Cli, client: redis.Redis) -> None:
        show(client, "a\x1b[31m", state="unhealthy", problem="a reason")
        client.zadd(keys.WORKERS, {"gone": client.time()[0] - 60})
        tables = cli("top", "--once").stdout
        assert "\x1b" not in tables
        assert "a reason" in tables
        assert "gone has not shown itself lately" in tables
        assert "50%" in tables, "the fill of clip's batches"

    def test_it_looks_until_it_is_interrupted(self, cli: Cli, client: redis.Redis, redis_url: str) -> None:
        show(client, "a")
        process = subprocess.Popen(
            [sys.executable, "-m", "legit_embedding.cli", "top", "--json", "--interval", "0.1"],
            env=os.environ | {"LEGIT_REDIS_URL": redis_url, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert [each["worker"] for each in json.loads(process.stdout.readline())["workers"]] == ["a"]
            show(client, "b")
            while len(json.loads(process.stdout.readline())["workers"]) < 2:
                pass
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=10)
        assert (process.returncode, stderr) == (INTERRUPTED, "")

    def test_it_outlives_its_server(self, cli: Cli, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        show(client, "a")
        looks = iter([scene.look, scene.look])

        def look(server: redis.Redis) -> object:
            if (real := next(looks, None)) is not None:
                return real(server)
            monkeypatch.setattr(scene, "look", interrupted)
            raise redis.ConnectionError("gone for a moment")

        def interrupted(_: redis.Redis) -> object:
            raise KeyboardInterrupt

        monkeypatch.setattr(scene, "look", look)
        shown = cli("top", "--interval", "0.1", "--json", code=INTERRUPTED)
        assert len(shown.stdout.splitlines()) == 2
        assert "gone for a moment; trying again" in shown.stderr
