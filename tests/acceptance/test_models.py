"""Models as their cards say, in one worker that may not ask the hub."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from legit_embedding.encoding import CODECS, decode_entry
from tests.clients import PREPARE_IMAGE, PREPARE_TEXT, Client
from tests.images import encoded, photo
from tests.models import minilm_folder
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

COMMIT = "c" * 40
PHOTO = base64.b64encode(encoded(photo("coffee.png"), "JPEG")).decode()
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
        "name": "acme/minilm",
        "default": True,
        "prompts": {"query": "query: ", "document": "document: "},
        "matryoshka": [64, 128],
        "overflow": "mean",
    },
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hub's cache, as a download of the real MiniLM leaves it."""
    folder = tmp_path_factory.mktemp("hub")
    model = folder / "models--acme--minilm"
    snapshot = model / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(minilm_folder(), target_is_directory=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    return folder


@pytest.fixture(scope="module")
def worker(shared_url: str, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
    with Worker(shared_url, tmp_path_factory.mktemp("worker"), {"models": MODELS}, env=offline) as worker:
        yield worker.wait_ready()


@pytest.fixture(scope="module")
def client(shared_url: str, worker: Worker) -> Client:
    return Client(shared_url)


def ask(client: Client, *tasks: dict[str, Any]) -> list[dict[str, str]]:
    named = [{"task_id": str(uuid.uuid4())} | task for task in tasks]
    client.send_all([(PREPARE_IMAGE if "image_b64" in task else PREPARE_TEXT, task) for task in named])
    answers = client.answers([task["task_id"] for task in named])
    return [answers[task["task_id"]] for task in named]


def vector(answer: dict[str, str]) -> NDArray[np.float32]:
    assert answer["status"] == "ok", answer
    found = decode_entry(answer)
    assert abs(np.linalg.norm(found) - 1) < 1e-3
    return found


def test_one_name_serves_words_and_pictures(client: Client) -> None:
    words, picture, other = ask(
        client, {"model": "clip", "text": "a cup"}, {"image_b64": PHOTO}, {"model": "clip", "text": "a bicycle"}
    )
    assert [(each["kind"], each["model"]) for each in (words, picture)] == [("text", "clip"), ("image", "clip")]
    assert len(vector(words)) == len(vector(picture)) == 256
    assert not np.allclose(vector(words), vector(other), atol=1e-3)
    (unnamed,) = ask(client, {"text": "a cup"})
    assert unnamed["model"] == "minilm"


def test_the_towers_are_two_queues_of_one_model(client: Client) -> None:
    ask(client, {"model": "clip", "text": "again"}, {"image_b64": PHOTO, "model": "clip"})
    shown = client.batching()
    assert list(shown) == ["clip (image)", "clip (text)", "minilm"]
    assert shown["clip (text)"]["items"] > 0 < shown["clip (image)"]["items"]
    said = client.redis.hgetall(client.redis.keys("embedding:worker:*")[0])
    assert json.loads(said[b"models"]) == ["clip", "minilm"]
    by_model = json.loads(said[b"by_model"])
    assert by_model["clip (text)"]["digest"] == by_model["clip (image)"]["digest"] != ""
    assert {by_model[f"clip ({kind})"]["model"] for kind in ("image", "text")} == {"clip"}
    assert by_model["minilm"]["revision"] == COMMIT


def test_a_result_names_the_revision(client: Client) -> None:
    known, unknown = ask(client, {"text": "a sentence"}, {"text": "a sentence", "model": "clip"})
    assert known["revision"] == COMMIT
    assert "revision" not in unknown


def test_a_task_names_its_prompt(client: Client) -> None:
    plain, prompted, written, bad, picture = ask(
        client,
        {"text": "a cup"},
        {"text": "a cup", "prompt_name": "query"},
        {"text": "query: a cup"},
        {"text": "a cup", "prompt_name": "quarry"},
        {"image_b64": PHOTO, "prompt_name": "query"},
    )
    assert np.allclose(vector(prompted), vector(written), atol=1e-5)
    assert not np.allclose(vector(prompted), vector(plain), atol=1e-3)
    assert (bad["error"], bad["detail"]) == (
        "invalid_task",
        "prompt_name: the model has no prompt 'quarry'; known prompts: query, document",
    )
    assert picture["error"] == "invalid_task"
    assert "prompt_name" in picture["detail"]


def test_a_task_says_how_long_its_vector_is(client: Client) -> None:
    full, short, bad, picture, none = ask(
        client,
        {"text": "a cup"},
        {"text": "a cup", "dimensions": 64},
        {"text": "a cup", "dimensions": 65},
        {"image_b64": PHOTO, "dimensions": 64},
        {"text": "a cup", "dimensions": 0},
    )
    cut = vector(full)[:64]
    assert np.allclose(vector(short), cut / np.linalg.norm(cut), atol=1e-6)
    assert (bad["error"], picture["error"], none["error"]) == ("invalid_task",) * 3
    assert bad["detail"] == "dimensions: the model 'minilm' does not cut its vectors to 65; known lengths: 64, 128"
    assert "models.NAME.matryoshka is not set" in picture["detail"]
    assert none["detail"].startswith("dimensions: ")


def test_a_long_text_is_the_mean_of_its_windows(client: Client) -> None:
    text = " ".join(f"sentence {number} of a very long text" for number in range(120))
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    parts = [ids[start : start + 254] for start in range(0, len(ids), 254)]
    windows = [tokenizer.decode(part) for part in parts]
    assert [tokenizer(window, add_special_tokens=False).input_ids for window in windows] == parts
    long, short, *each = ask(client, *({"text": each} for each in (text, "short", *windows)))
    assert (long["windows"], "windows" in short, "truncated" in long) == (str(len(windows)), False, False)
    mean = np.average([vector(answer) for answer in each], axis=0, weights=[len(part) + 2 for part in parts])
    assert np.allclose(vector(long), mean / np.linalg.norm(mean), atol=1e-4)


def test_plan_names_each_tower_its_revision_and_its_weights(worker: Worker) -> None:
    command = [sys.executable, "-m", "legit_embedding.cli", "plan", "--json"]
    done = subprocess.run(command, env=worker._environment(), capture_output=True, text=True, check=True)
    shown = json.loads(done.stdout)
    assert list(shown) == ["clip (image)", "clip (text)", "minilm"]
    assert shown["clip (image)"]["digest"] == shown["clip (text)"]["digest"]
    assert (shown["minilm"]["revision"], len(shown["minilm"]["digest"])) == (COMMIT, 16)
    assert 90_000_000 < shown["minilm"]["weights_bytes"] < 92_000_000, "its file has 91 MB"
    assert shown["minilm"]["limited_by"] in {"memory", "speed", "time"}


def test_a_vector_comes_in_the_form_that_its_task_asks_for(client: Client) -> None:
    asked = [{"model": "minilm", "text": "a cup", "encoding": encoding} for encoding in CODECS]
    full, *others = ask(client, *asked)
    assert [answer["encoding"] for answer in (full, *others)] == list(CODECS)
    assert [("scale" in answer) for answer in (full, *others)] == [False, False, True, False]
    wanted = decode_entry(full)
    for answer, least in zip(others, (0.99999, 0.9999, 0.7), strict=True):
        found = decode_entry(answer)
        assert len(found) == len(wanted) == 384
        assert found @ wanted / np.linalg.norm(found) > least
    (refused,) = ask(client, {"model": "minilm", "text": "a cup", "encoding": "base64_fp8"})
    assert (refused["error"], refused["detail"].partition(":")[0]) == ("invalid_task", "encoding")
    assert "base64_int8" in refused["detail"]


def test_a_receipt_carries_the_scale(client: Client) -> None:
    task = {
        "task_id": "scaled",
        "model": "minilm",
        "text": "a cup",
        "encoding": "base64_int8",
        "return_embedding": True,
    }
    receipt = client.send(PREPARE_TEXT, task).get(timeout=60)
    answer = client.answers(["scaled"])["scaled"]
    assert {name: receipt[name] for name in ("encoding", "embedding", "scale")} == {
        name: answer[name] for name in ("encoding", "embedding", "scale")
    }
