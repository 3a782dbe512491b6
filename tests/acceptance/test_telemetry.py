"""What people see of a real worker: its name, its health, its figures and its log.

One worker serves all tests here. Its streams are on another server than its broker, so that it can still be asked how
it is when the streams are away.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from legit_embedding.telemetry import keys
from tests.acceptance.conftest import NULL_MODELS
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT, Client
from tests.collector import Collector
from tests.servers import Server, free_port
from tests.unit.cli.invoking import Cli
from tests.unit.telemetry.deployed import named_metrics
from tests.workers import Worker, wait_for

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "a-token"
FAULTY = {"kind": "text", "backend": "tests.faulty_model:FaultyModel"}
NAME = "pod@seen"


class Deployment:
    """A worker, its two servers, and everything that looks at it."""

    def __init__(self, directory: Path, broker: Server, streams: Server, collector: Collector) -> None:
        self.broker, self.streams, self.collector = broker, streams, collector
        self.port = free_port()
        self.directory = directory
        self.client = Client(broker.url)
        self.cli = Cli(REDIS_URL=streams.url)
        self.worker = self.make_worker("first")

    def make_worker(self, name: str, **http: Any) -> Worker:
        config = {
            "models": NULL_MODELS | {"faulty": FAULTY},
            "telemetry": {"interval_s": 0.2, "json_logs": True, "traces": True},
            "http": {"port": self.port, "token": TOKEN} | http,
        }
        env = {
            "CELERY_CONFIG_MODULE": "tests.profile",
            "CELERY_BROKER_URL": self.broker.url,
            "CELERY_RESULT_BACKEND": self.broker.url,
            "CELERY_WORKER_LOGLEVEL": "DEBUG",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        return Worker(self.streams.url, self.directory / name, config, args=("-n", NAME, "-c", "2"), env=env)

    def get(self, path: str, token: str | None = None) -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def families(self) -> dict[str, Any]:
        status, text = self.get("/metrics", TOKEN)
        assert status == 200
        return {family.name: family for family in text_string_to_metric_families(text)}

    def backlog(self) -> dict[str, float]:
        """The unfinished tasks by source."""
        family = self.families().get("legit_backlog_items")
        return {sample.labels["source"]: sample.value for sample in family.samples} if family is not None else {}

    def sample(self, name: str, **labels: str) -> float:
        """The one value with these labels."""
        [value] = [
            sample.value
            for family in self.families().values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return value

    def answers(self, *ids: str) -> dict[str, dict[str, str]]:
        found = Client(self.streams.url)
        return found.answers(ids, timeout=30)

    def ping(self) -> dict[str, str]:
        [reply] = self.client.app.control.ping(timeout=5, destination=[NAME])
        return reply[NAME]

    def batching(self, **changes: Any) -> Any:
        [reply] = self.client.app.control.broadcast("batching", arguments=changes, reply=True, timeout=5, limit=1)
        return reply[NAME]

    def celery(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", "legit_embedding", *arguments],
            env=os.environ | {"LEGIT_REDIS_URL": self.broker.url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    directory = tmp_path_factory.mktemp("deployment")
    with (
        Server("valkey", directory / "broker") as broker,
        Server("valkey", directory / "streams") as streams,
        Collector() as collector,
    ):
        deployment = Deployment(directory, broker, streams, collector)
        with deployment.worker as worker:
            worker.wait_ready()
            yield deployment


@pytest.fixture
def healthy(deployment):
    """The deployment, as every test finds it and leaves it."""
    wait_for(lambda: deployment.get("/health")[0] == 200, 30, "the worker to be well")
    return deployment


def test_one_name_everywhere(healthy):
    healthy.client.text("a text", task_id="named")
    assert healthy.answers("named")["named"]["worker"] == NAME
    with healthy.streams.client() as redis:
        consumers = redis.xinfo_consumers("embedding_tasks", "embedding_workers")
        assert [consumer["name"] for consumer in consumers] == [NAME]
        assert redis.zrange(keys.WORKERS, 0, -1) == [NAME]
        assert redis.hget(keys.worker(NAME), "state") == "running"
        assert set(redis.keys("embedding:stats:*")) == {keys.legacy(role, NAME) for role in keys.ROLES}
        assert not [key for key in redis.keys("*") if str(healthy.worker.pid) in key]
    workers = {
        sample.labels["worker"]
        for name, family in healthy.families().items()
        if name.startswith("legit_")
        for sample in family.samples
    }
    assert workers == {NAME}


def test_the_scrape_counts_what_was_done(healthy):
    before = healthy.sample("legit_items_total", model="null-text", outcome="ok")
    ids = [f"counted-{number}" for number in range(40)]
    healthy.client.send_all((PREPARE_TEXT, {"task_id": each, "text": each}) for each in ids)
    healthy.client.send(PREPARE_TEXT, {"task_id": "nan", "text": "<nan>", "model": "faulty"})
    healthy.client.send(PREPARE_TEXT, {"task_id": "unknown", "text": "x", "model": "from-a-producer"})
    healthy.answers(*ids, "nan", "unknown")
    assert healthy.sample("legit_items_total", model="null-text", outcome="ok") == before + 40
    assert healthy.sample("legit_items_total", model="faulty", outcome="non_finite") == 1
    assert healthy.sample("legit_items_total", model="", outcome="unknown_model") == 1
    for name in ("legit_prep_seconds", "legit_queue_seconds"):
        assert healthy.sample(f"{name}_count", model="null-text") >= before + 40
    batches = healthy.sample("legit_batch_items_count", model="null-text")
    assert healthy.sample("legit_batch_items_sum", model="null-text") >= before + 40
    assert healthy.sample("legit_compute_seconds_count", model="null-text") == batches
    assert healthy.sample("legit_batch_fill_ratio_bucket", model="null-text", le="+Inf") == batches
    assert healthy.sample("legit_write_seconds_count") > 0
    assert healthy.sample("legit_in_flight_items") == 0
    assert healthy.sample("legit_memory_planned_bytes", model="null-text") > 0
    assert healthy.sample("legit_healthy") == 1
    for source in ("stream:embedding_tasks", "queue:embedding", "unacknowledged"):
        wait_for(lambda source=source: source in healthy.backlog(), 30, f"the backlog of {source}")
    assert not any(healthy.backlog().values())
    assert not [name for name in healthy.families() if "from-a-producer" in name]


def test_the_dashboard_and_the_alerts_name_metrics_that_exist(healthy):
    healthy.client.send(PREPARE_TEXT, {"task_id": "cut", "text": "x" * 600, "model": "faulty"})
    healthy.answers("cut")
    there = {sample.name for family in healthy.families().values() for sample in family.samples}
    for file, names in named_metrics().items():
        assert names, file
        assert names <= there, f"{file} names metrics that no worker has: {sorted(names - there)}"


def test_http(healthy):
    status, body = healthy.get("/health")
    shown = json.loads(body)
    assert (status, shown["status"], shown["problems"]) == (200, "ok", [])
    assert (shown["model"], shown["dimension"]) == ("null-text", 768)
    assert set(shown["models"]) == {"null-text", "null-image", "faulty"}
    assert healthy.get("/metrics")[0] == 401
    assert healthy.get("/metrics", "another")[0] == 401
    assert healthy.get("/elsewhere")[0] == 404


def test_the_commands_show_a_worker_that_is_well(healthy):
    assert healthy.ping() == {"ok": "pong"}
    shown = healthy.celery("inspect", "ping")
    assert (shown.returncode, "pong" in shown.stdout) == (0, True), shown.stderr
    assert healthy.cli("health", "--worker", NAME).stdout == f"{NAME} is running\n"
    assert healthy.cli("health", WORKER_ID=NAME).stdout == f"{NAME} is running\n"
    assert "no worker 'nobody'" in healthy.cli.failure("health", "--worker", "nobody")
    assert NAME in healthy.cli.failure("health", "--worker", "nobody"), "it says who is there"


def test_top(healthy):
    healthy.client.text("a text", task_id="for-top")
    healthy.answers("for-top")
    [worker] = wait_for(
        lambda: [
            each
            for each in healthy.cli.json("top", "--once", "--json")["workers"]
            if each["embedded"] and each["models"]["null-text"]["items"] and not each["in_flight"]
        ],
        30,
        "the counts",
    )
    assert (worker["worker"], worker["state"], worker["in_flight"]) == (NAME, "running", 0)
    tables = healthy.cli("top", "--once").stdout
    assert NAME in tables
    assert "null-image" in tables
    assert healthy.cli.json("top", "--once", "--json", "--worker", "nobody")["lost"] == ["nobody"]


class TestBatching:
    def test_celery_inspect_and_control(self, healthy):
        shown = healthy.celery("inspect", "batching", "--json")
        assert shown.returncode == 0, shown.stderr
        report = json.loads(shown.stdout)[NAME]["ok"]
        assert set(report["models"]) == {"null-text", "null-image", "faulty"}
        assert report["models"]["null-text"]["weight"] == 1.0
        changed = healthy.celery("control", "batching", "null-text", "weight=2.5", "max_batch=4", "linger_ms=1")
        assert changed.returncode == 0, changed.stderr
        model = healthy.batching()["ok"]["models"]["null-text"]
        assert (model["weight"], model["max_batch"], model["linger_ms"]) == (2.5, 4, 1.0)
        before = {le: healthy.sample("legit_batch_items_bucket", model="null-text", le=le) for le in ("4.0", "+Inf")}
        ids = [f"small-{number}" for number in range(60)]
        healthy.client.send_all((PREPARE_TEXT, {"task_id": each, "text": each}) for each in ids)
        healthy.answers(*ids)
        after = {le: healthy.sample("legit_batch_items_bucket", model="null-text", le=le) for le in ("4.0", "+Inf")}
        assert after["+Inf"] - before["+Inf"] == after["4.0"] - before["4.0"] >= 15
        assert healthy.batching(model="null-text", max_batch="auto", weight=1, linger_ms=0)["ok"]["max_batch"] == "auto"

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"model": "nobody", "weight": 2}, "there is no model 'nobody'; there are null-text, null-image, faulty"),
            ({"model": "null-text"}, "nothing to change"),
            ({"model": "null-text", "weight": 0}, "a number from 0.001 to 1000"),
            ({"model": "null-text", "weight": "nan"}, "a number from 0.001 to 1000"),
            ({"model": "null-text", "linger_ms": -1}, "a time from 0 to"),
            ({"model": "null-text", "max_batch": 0}, "a whole number from 1"),
            ({"model": "null-text", "max_batch": "many"}, "max_batch=many"),
            ({"model": "null-text", "weight": 9, "color": "red"}, "there is no 'color' to change"),
            ({"words": ["null-text", "weight"]}, "'weight' is no change like weight=2"),
        ],
    )
    def test_what_does_not_fit_is_answered_in_words_and_changes_nothing(self, healthy, changes, said):
        before = healthy.batching()["ok"]["models"]["null-text"]
        assert said in healthy.batching(**changes)["error"]
        after = healthy.batching()["ok"]["models"]["null-text"]
        assert {key: after[key] for key in ("weight", "linger_ms", "max_batch")} == {
            key: before[key] for key in ("weight", "linger_ms", "max_batch")
        }


def test_the_log_is_json_and_holds_no_secret(healthy):
    url = "https://user:a-password@127.0.0.1:1/private.jpg?signature=a-signature"
    healthy.client.send(PREPARE_IMAGE, {"task_id": "signed", "image_url": url})
    healthy.client.send(PREPARE_TEXT, {"task_id": "poisoned", "text": "<poison>", "model": "faulty"})
    healthy.answers("signed", "poisoned")

    def lines() -> list[dict[str, Any]]:
        # The banner comes before logging is set up.
        return [json.loads(line) for line in healthy.worker.log.splitlines() if line.startswith("{")]

    [error] = wait_for(
        lambda: [each for each in lines() if each.get("task_id") == "poisoned" and each["level"] == "ERROR"], 10, "it"
    )
    assert (error["model"], error["code"]) == ("faulty", "model_failed")
    # The first of its code in a minute is a warning, so that it is seen at Celery's default level.
    assert any(each.get("task_id") == "signed" and each["level"] in {"INFO", "WARNING"} for each in lines())
    assert any(each["message"].startswith("A batch of") and each["level"] == "DEBUG" for each in lines())
    assert "a-signature" not in healthy.worker.log
    assert "a-password" not in healthy.worker.log


@pytest.mark.parametrize("way", ["celery", "stream"])
def test_a_trace_goes_on_where_its_producer_left_it(healthy, way):
    trace_id = secrets.token_hex(16)
    traceparent = f"00-{trace_id}-{'b7' * 8}-01"
    task = {"task_id": f"traced-{way}", "text": "a text"}
    if way == "celery":
        healthy.client.send(PREPARE_TEXT, task, headers={"traceparent": traceparent})
    else:
        with healthy.streams.client() as redis:
            redis.xadd("embedding_tasks", task | {"traceparent": traceparent})
    spans = wait_for(
        lambda: (found := healthy.collector.of_trace(trace_id)) and len(found) == 5 and found, 20, "the trace's spans"
    )
    assert set(spans) == {"embed null-text", "prep", "queue", "compute", "write"}
    root = spans.pop("embed null-text")
    assert root.parent_span_id.hex() == "b7" * 8
    assert {span.parent_span_id for span in spans.values()} == {root.span_id}


def test_a_model_that_fails_at_everything_turns_red_until_it_works_again(healthy):
    healthy.client.send(PREPARE_TEXT, {"task_id": "first", "text": "good", "model": "faulty"})
    healthy.answers("first")
    for number in range(8):
        healthy.client.send(PREPARE_TEXT, {"task_id": f"bad-{number}", "text": f"<poison> {number}", "model": "faulty"})
        healthy.answers(f"bad-{number}")
    status, body = healthy.get("/health")
    assert (status, json.loads(body)["status"]) == (503, "unhealthy")
    assert healthy.ping() == {"error": "unhealthy: the model faulty has failed 8 times in a row"}
    assert "unhealthy: the model faulty" in healthy.celery("inspect", "ping").stdout
    failure = wait_for(
        lambda: healthy.cli("health", "--worker", NAME, "--json", code=1).stdout, 10, "the command to say so"
    )
    assert json.loads(failure)["problem"] == "the model faulty has failed 8 times in a row"
    healthy.client.send(PREPARE_TEXT, {"task_id": "good", "text": "good", "model": "faulty"})
    healthy.answers("good")
    assert healthy.ping() == {"ok": "pong"}


def test_streams_out_of_reach_turn_red_and_the_worker_stays(healthy):
    healthy.streams.kill()
    wait_for(lambda: "Redis cannot be reached" in healthy.get("/health")[1], 20, "the worker to be red")
    assert healthy.get("/health")[0] == 503
    assert "Redis cannot be reached" in healthy.ping()["error"]
    assert "refused" in healthy.cli.failure("health", "--worker", NAME)
    healthy.client.text("a text", task_id="late")
    healthy.streams.start()
    wait_for(lambda: healthy.get("/health")[0] == 200, 30, "the worker to be well again")
    assert healthy.answers("late")["late"]["status"] == "ok"
    assert healthy.ping() == {"ok": "pong"}


def test_a_second_worker_of_the_name_refuses_to_start_and_a_killed_one_comes_back(healthy):
    with healthy.make_worker("second", port=0) as second:
        assert second.wait(60) != 0
        [line] = [each for each in second.log.splitlines() if "cannot start" in each]
        assert f"another process that is alive has the identity '{NAME}'" in line
        assert "-n or LEGIT_WORKER_ID" in line
        assert "Traceback" not in second.log
    assert healthy.worker.running
    healthy.worker.kill()
    healthy.worker.start()
    healthy.worker.wait_ready()
    healthy.client.text("a text", task_id="after-the-kill")
    assert healthy.answers("after-the-kill")["after-the-kill"]["status"] == "ok"


def test_a_dead_thread_ends_the_process(healthy):
    healthy.client.send("tests.tasks.end_the_writer")
    assert healthy.worker.wait(60) != 0
    assert "the thread stream-writer has ended" in healthy.worker.log
    with healthy.streams.client() as redis:
        assert redis.zrange(keys.WORKERS, 0, -1) == []
        assert redis.keys("embedding:claim:*") == [], "so that the next one starts at once"
    healthy.worker.start()
    healthy.worker.wait_ready()
