"""The worker is started the way its users already start workers."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.clients import PREPARE_TEXT
from tests.workers import Worker, wait_for

GPUBATCH = "legit_embedding.pool.gpubatch:TaskPool"


def pool_of(client, worker_count=1):
    def stats():
        replies = client.app.control.inspect(timeout=1).stats() or {}
        return replies if len(replies) == worker_count else None

    return [each["pool"] for each in wait_for(stats, 20, "the worker's stats").values()]


def check_it_embeds(client):
    receipt = client.text("a sentence", task_id="t-1").get(timeout=30)
    assert receipt["status"] == "ok"
    assert client.answers(["t-1"])["t-1"]["status"] == "ok"


def test_the_literal_command(make_worker, client):
    with make_worker(command=("-m", "celery", "-A", "legit_embedding", "worker", "--pool=gpubatch")) as worker:
        worker.wait_ready()
        assert "(gpubatch)" in worker.log, "the banner names the pool"
        [pool] = pool_of(client)
        assert pool["implementation"] == GPUBATCH
        check_it_embeds(client)
        assert worker.stop() == 0


def test_the_command_of_the_environment_without_a_profile(redis_url, tmp_path, client):
    """The package runs without `celeryconfig`, from any directory."""
    worker = Worker(redis_url, tmp_path / "w", {"models": {"m": {"kind": "text", "backend": NULL}}})
    worker.start()
    try:
        worker.wait_ready()
        check_it_embeds(client)
    finally:
        worker.kill()


NULL = "legit_embedding.models.null:NullModel"


def test_the_pool_named_in_the_configuration(make_worker, client):
    command = ("-m", "celery", "-A", "legit_embedding", "worker")
    with make_worker(command=command) as worker:
        worker.wait_ready()
        [pool] = pool_of(client)
        assert pool["implementation"] == GPUBATCH


def test_celery_multi(make_worker, client, tmp_path):
    pidfile, logfile = tmp_path / "%n.pid", tmp_path / "%n%I.log"
    files = (f"--pidfile={pidfile}", f"--logfile={logfile}")
    start = ("-m", "celery", "-A", "legit_embedding", "multi", "start", "m1", "--pool=gpubatch", *files)
    worker = make_worker(command=start)
    worker.start()
    assert worker.wait(60) == 0
    try:
        [pool] = pool_of(client)
        assert pool["implementation"] == GPUBATCH
        check_it_embeds(client)
    finally:
        stop = ("-m", "celery", "multi", "stopwait", "m1", *files)
        subprocess.run([sys.executable, *stop], check=True, timeout=60, capture_output=True)


def test_a_worker_made_in_python(make_worker, client):
    script = (
        "from legit_embedding.celery import app\n"
        "import celery\n"
        "worker = app.Worker(pool='gpubatch', concurrency=2, loglevel='INFO')\n"
        "worker.start()\n"
        "raise SystemExit(worker.exitcode)\n"
    )
    with make_worker(command=("-c", script)) as worker:
        worker.wait_ready()
        worker.wait_for_log("concurrency 2: given")
        [pool] = pool_of(client)
        assert pool["implementation"] == GPUBATCH
        check_it_embeds(client)
        assert worker.stop() == 0


def test_the_embedding_tasks_block_on_other_pools(make_worker, client):
    for pool in ("solo", "threads"):
        command = ("-m", "celery", "-A", "legit_embedding", "worker", f"--pool={pool}")
        with make_worker(command=command) as worker:
            worker.wait_ready()
            receipt = client.send(PREPARE_TEXT, {"task_id": pool, "text": "x"}).get(timeout=30)
            assert receipt["status"] == "ok"
            assert worker.stop() == 0


def test_settings_that_do_not_fit_stop_the_start_with_one_line(make_worker):
    worker = make_worker({"engine": {"memory_fraction": 7}})
    worker.start()
    assert worker.wait(30) != 0
    [line] = worker.log.strip().splitlines()
    where, said = r"\S+legit\.toml:\d+", "Input should be less than or equal to 0.95"
    assert re.fullmatch(rf"legit_embedding: {where}: engine\.memory_fraction: {re.escape(said)}", line)


def test_a_model_that_does_not_load_stops_the_start_with_its_reason(make_worker):
    worker = make_worker({"models": {"eva": {"kind": "image", "backend": "open_clip", "name": "no-such-model"}}})
    worker.start()
    assert worker.wait(60) != 0
    reasons = [line for line in worker.log.splitlines() if "legit_embedding cannot start" in line]
    assert len(reasons) == 1
    assert "models.eva" in reasons[0]
    assert "no-such-model" in reasons[0]
    assert "Traceback" not in worker.log
