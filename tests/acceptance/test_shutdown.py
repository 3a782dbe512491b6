"""However a worker is told to stop, and wherever an item is then: each is answered exactly once in the end."""

from __future__ import annotations

import contextlib
import io
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from tests.acceptance.conftest import NULL_MODELS, TEST_TASKS
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT
from tests.workers import wait_for

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


@pytest.fixture
def site():
    with SlowSite() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.go.set()
        server.shutdown()


@pytest.fixture
def soft_profile(tmp_path):
    (tmp_path / "soft.py").write_text("from tests.profile import *\nworker_soft_shutdown_timeout = 3.0\n")
    return {"PYTHONPATH": str(tmp_path)}


def is_writing(client):
    """Whether a commit waits for Redis."""
    return any(each["cmd"] == "evalsha" and "b" in each["flags"] for each in client.redis.client_list())


@pytest.mark.parametrize("how", SIGNALS)
def test_nothing_is_lost(how, make_worker, client, site, soft_profile):
    signals, env, kind, codes = SIGNALS[how]
    config = {
        "models": NULL_MODELS | {"null-text": SLOW_TEXTS},
        "fetch": {"allow_private": [site.place], "timeout_s": 60},
        "engine": {"max_in_flight": IN_FLIGHT},
    }
    worker = make_worker(config, env=TEST_TASKS | soft_profile | env, args=("-c", "3"))
    images = [f"image-{n}" for n in range(IMAGES)]
    texts = [f"text-{n}" for n in range(TEXTS)]
    with worker:
        worker.wait_ready()
        client.send_all(
            (PREPARE_IMAGE, {"task_id": each, "image_url": f"http://{site.place}/{each}"}) for each in images
        )
        client.send_all((PREPARE_TEXT, {"task_id": each, "text": each}) for each in texts)
        client.wait_for_entries(2)
        wait_for(lambda: site.asked == IMAGES, 20, "both images to be in preparation")
        client.redis.execute_command("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
        wait_for(lambda: is_writing(client), 10, "a batch to be in writing")
        assert client.redis.xlen("embedding_results") < TEXTS - 8, "one on the device, and others behind it"
        waiting = client.redis.llen("embedding")
        assert waiting > 0, "and some in the queue"
        worker.send_signal(signals[0])
        for number in signals[1:]:
            worker.wait_for_log("Warm shutdown")
            worker.send_signal(number)
        if kind == "warm":
            site.go.set()
        assert worker.wait(30) in codes, "as Celery has it"
        left = client.redis.llen("embedding")
        if kind == "warm":
            assert left <= waiting, "what was taken was finished"
            assert len(client.entries()) == TEXTS + IMAGES - left
        else:
            assert left > waiting, "what was not finished is back"
    site.go.set()
    with make_worker(config, args=("-c", "3")) as after:
        after.wait_ready()
        answers = client.answers(images + texts, timeout=30)
        assert {answers[each]["status"] for each in images + texts} == {"ok"}
        wait_for(lambda: client.redis.hlen("unacked") == 0, 10, "everything to be acknowledged")
        ids = [entry["task_id"] for entry in client.entries()]
        assert sorted(ids) == sorted(images + texts), "each exactly once"
