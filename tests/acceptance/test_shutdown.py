"""However a worker is told to stop, and wherever an item is then: each is answered exactly once in the end."""

from __future__ import annotations

import contextlib
import io
import signal
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from tests.acceptance.conftest import NULL_MODELS, TEST_TASKS
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT, Client
from tests.workers import Worker, wait_for

TEXTS, IMAGES, IN_FLIGHT = 24, 2, 16
SLOW_TEXTS = NULL_MODELS["null-text"] | {"options": {"batch_s": 0.3}, "max_batch": 2}
PAUSE_MS = 1500
# How, on what settings, which kind of shutdown Celery makes of it, and the exit codes.
SIGNALS = {
    "SIGTERM": ([signal.SIGTERM], {}, "warm", {0}),
    "SIGINT": ([signal.SIGINT], {}, "warm", {1}),
    "SIGQUIT": ([signal.SIGQUIT], {}, "cold", {0}),
    "SIGINT twice": ([signal.SIGINT, signal.SIGINT], {}, "cold", {0, 1}),  # by how far the first one had come
    "SIGTERM as SIGQUIT": ([signal.SIGTERM], {"REMAP_SIGTERM": "SIGQUIT"}, "cold", {0}),
    "SIGQUIT, soft": ([signal.SIGQUIT], {"CELERY_CONFIG_MODULE": "soft"}, "soft", {0}),
}


class SlowSite(ThreadingHTTPServer):
    """Serves one photo to everybody, but only once it is let go."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Photo)
        self.place = f"127.0.0.1:{self.server_port}"
        self.asked = 0
        self.go = threading.Event()
        photo = io.BytesIO()
        Image.new("RGB", (8, 8)).save(photo, "PNG")
        self.photo = photo.getvalue()


class Photo(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        self.server.go.wait(60)
        with contextlib.suppress(ConnectionError):  # a worker that was told to go does not wait
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.server.photo)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site():
    with SlowSite() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.go.set()
        server.shutdown()


@pytest.fixture(scope="module")
def client(shared_url):
    return Client(shared_url)


@pytest.fixture(scope="module")
def sent():
    """The ids of all the tasks so far."""
    return []


@pytest.fixture
def start(site, shared_url, tmp_path):
    """Starts a worker, which first finishes what the one before it has left."""
    (tmp_path / "soft.py").write_text("from tests.profile import *\nworker_soft_shutdown_timeout = 3.0\n")
    config = {
        "models": NULL_MODELS | {"null-text": SLOW_TEXTS},
        "fetch": {"allow_private": [site.place], "timeout_s": 60},
        "engine": {"max_in_flight": IN_FLIGHT},
    }

    @contextlib.contextmanager
    def start(client, env):
        site.go.set()
        env = TEST_TASKS | {"PYTHONPATH": str(tmp_path)} | env
        with Worker(shared_url, tmp_path / "worker", config, env=env, args=("-c", "3")) as worker:
            worker.wait_ready()
            wait_for(lambda: not client.redis.llen("embedding"), 30, "an empty queue")
            wait_for(lambda: not client.redis.hlen("unacked"), 30, "everything to be acknowledged")
            site.go.clear()
            site.asked = 0
            yield worker

    return start


def is_writing(client):
    """Whether a commit waits for Redis."""
    return any(each["cmd"] == "evalsha" and "b" in each["flags"] for each in client.redis.client_list())


@pytest.mark.parametrize("how", SIGNALS)
def test_what_was_taken_is_finished_or_given_back(how, start, client, site, sent):
    signals, env, kind, codes = SIGNALS[how]
    with start(client, env) as worker:
        before = client.redis.xlen("embedding_results")
        images = [f"{how}: image {n}" for n in range(IMAGES)]
        texts = [f"{how}: text {n}" for n in range(TEXTS)]
        sent.extend(images + texts)
        client.send_all((PREPARE_IMAGE, {"task_id": each, "image_url": f"http://{site.place}/"}) for each in images)
        client.send_all((PREPARE_TEXT, {"task_id": each, "text": each}) for each in texts)
        client.wait_for_entries(before + 2)
        wait_for(lambda: site.asked == IMAGES, 20, "both images to be in preparation")
        client.redis.execute_command("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
        wait_for(lambda: is_writing(client), 10, "a batch to be in writing")
        assert client.redis.xlen("embedding_results") - before < TEXTS - 8, "one on the device, and others behind it"
        assert client.waiting(), "and some in the queue"
        worker.send_signal(signals[0])
        for number in signals[1:]:
            worker.wait_for_log("Warm shutdown")
            worker.send_signal(number)
        if kind == "warm":
            site.go.set()
        assert worker.wait(30) in codes, "as Celery has it"
        answered = {entry["task_id"] for entry in client.entries()[before:]}
        finished = set(images) if kind == "warm" else set()
        assert answered & set(images) == finished, "only a warm stop waits for what is in preparation"
        assert client.waiting() == {*images, *texts} - answered, "what was not finished is back"


def test_after_all_these_each_is_answered_exactly_once(start, client, sent):
    with start(client, {}):
        entries = client.entries()
    assert Counter(entry["task_id"] for entry in entries) == Counter(sent)
    assert {entry["status"] for entry in entries} == {"ok"}
