"""The snippets of README.md and docs/reference/contract.md, against a real worker."""

from __future__ import annotations

import base64
import json
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from celery import Celery
from PIL import Image

from legit_embedding.encoding import decode_embedding
from tests.clients import Client
from tests.documents import ROOT, snippets
from tests.images import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.workers import Worker

SNIPPETS = {name: snippets(ROOT / name) for name in ("README.md", "docs/reference/contract.md")}
PHOTO = f'"image_b64": "{base64.b64encode(encoded(Image.new("RGB", (32, 32)), "PNG")).decode()}"'
DECODERS = [
    pytest.param(each, id=f"{each.document}-{each.language}")
    for found in SNIPPETS.values()
    for each in found
    if "base64" in each.text
]


@pytest.fixture(scope="module")
def answers(shared_url: str, shared_worker: Worker) -> Iterator[dict[str, dict[str, str]]]:
    """The answers to the tasks that README sends, the image's address replaced by an image."""
    program, *_ = (each.text for each in SNIPPETS["README.md"] if "send_task" in each.text)
    assert '"image_url": "https://…"' in program
    (entry,) = (each.text for each in SNIPPETS["README.md"] if each.text.startswith("XADD"))
    assert shared_worker.running
    client = Client(shared_url)
    with Celery("a stranger's", broker=shared_url, backend=shared_url, set_as_current=False) as producer:
        exec(program.replace('"image_url": "https://…"', PHOTO), {"celery": producer})
    client.redis.execute_command(*shlex.split(entry.replace('"42"', '"44"')))
    yield client.answers(["42", "43", "44"])
    client.close()


def test_every_task_is_answered(answers: dict[str, dict[str, str]]) -> None:
    assert {task_id: (each["status"], each["kind"]) for task_id, each in answers.items()} == {
        "42": ("ok", "text"),
        "43": ("ok", "image"),
        "44": ("ok", "text"),
    }
    assert answers["42"]["embedding"] == answers["44"]["embedding"]


@pytest.mark.parametrize("snippet", DECODERS)
def test_a_vector_is_read(snippet: Any, answers: dict[str, dict[str, str]]) -> None:
    entry = answers["42"]
    code = snippet.text.strip()
    if snippet.language == "python":
        names = {"np": np, "base64": base64, "entry": entry, "embedding": entry["embedding"]}
        found = eval(code.removeprefix("vector = "), names)
    else:
        if shutil.which("php") is None:
            pytest.skip("no php on the PATH")
        code = code.removeprefix("$vector = ").rstrip(";")
        program = f"$embedding = $argv[1]; echo json_encode({code});"
        run = subprocess.run(["php", "-r", program, entry["embedding"]], check=True, capture_output=True, text=True)
        found = np.array(json.loads(run.stdout), np.float32)
    assert np.array_equal(found, decode_embedding(entry["embedding"]))
