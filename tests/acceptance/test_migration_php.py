"""PHP producers and consumers go on as they are: the scripts of docs/php, against a real worker."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from legit_embedding.migration.cutover.plan import Plan
from legit_embedding.migration.cutover.share import Subject
from legit_embedding.migration.cutover.store import PlanStore
from legit_embedding.models.null import expected
from tests.clients import PREPARE_TEXT
from tests.php import has_phpredis
from tests.texts import texts

SCRIPTS = Path(__file__).parents[2] / "docs" / "php"
DIM = 768


pytestmark = pytest.mark.skipif(not has_phpredis(), reason="php with phpredis is not installed (php-cli, php-redis)")


@pytest.fixture
def php(redis_url):
    address = urlsplit(redis_url)

    def php(script, *args, given=""):
        command = ["php", str(SCRIPTS / script), str(address.hostname), str(address.port), *args]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return [json.loads(line) for line in done.stdout.splitlines()]

    return php


def test_an_old_consumer_gets_the_same_floats(php, null_worker, client):
    sentences = texts(50, 1, 20)
    tasks = [{"task_id": f"t{n}", "text": text, "metadata": {"n": n, "ü": None}} for n, text in enumerate(sentences)]
    client.send_all((PREPARE_TEXT, task) for task in tasks)
    client.send(PREPARE_TEXT, {"task_id": "bad", "text": "x", "model": "unknown"})
    client.wait_for_entries(51)
    found = {line["task_id"]: line for line in php("consumer.php", "embedding_results")}
    assert len(found) == 51
    assert found.pop("bad")["error"] == "unknown_model"
    for number, text in enumerate(sentences):
        line = found[f"t{number}"]
        assert line["vector"] == expected(text, DIM).tolist(), "every float, to the last bit"
        assert line["dim"] == len(line["vector"]) == DIM
        assert line["metadata"] == {"n": number, "ü": None}


def test_a_php_producer_follows_the_cutover(php, null_worker, client):
    sentences = [" ".join(text.split()) for text in texts(60, 1, 20)]
    PlanStore(client.redis).change(lambda _: Plan(share=50))
    sent = php("producer.php", given="\n".join(sentences) + "\n")
    assert [line["queue"] for line in sent] == [
        "embedding" if Subject(line["task_id"]).within(50) else "legacy_prep" for line in sent
    ]
    assert {line["queue"] for line in sent} == {"embedding", "legacy_prep"}
    client.app.control.add_consumer("legacy_prep", reply=True, limit=1, timeout=10)
    answers = client.answers([line["task_id"] for line in sent])
    assert {entry["status"] for entry in answers.values()} == {"ok"}
    assert client.redis.xlen("embedding_results") == len(sentences)
