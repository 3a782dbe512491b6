"""`embed` against a stand-in of a worker that answers what the test wants, in the order that the test wants."""

from __future__ import annotations

import fcntl
import json
import sys
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from legit_embedding.cli.embed import exchange
from legit_embedding.cli.embed.journal import Journal
from legit_embedding.cli.shared import patience, replies
from legit_embedding.encoding import encode_embedding
from legit_embedding.telemetry import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest
    import redis

    from tests.unit.cli.invoking import Cli

TASKS = "embedding_tasks"


def good(task: dict[str, Any]) -> dict[str, str]:
    """The vector says which text it is of."""
    vector = np.array([float(task["text"]), 1, 0, 0], np.float32)
    return {"status": "ok", "kind": "text", "model": "m", "dim": "4", "embedding": encode_embedding(vector)}


@contextmanager
def answering(
    client: redis.Redis, answer: Callable[[dict[str, Any]], dict[str, str]] = good
) -> Iterator[list[dict[str, Any]]]:
    """Answer what is in the task stream, the last task first; what was answered is yielded."""
    done, taken = Event(), []

    def work() -> None:
        while not done.wait(0.01):
            for entry_id, fields in reversed(client.xrange(TASKS)):
                task = json.loads(fields[b"payload"])
                taken.append(task)
                with client.pipeline() as pipeline:
                    pipeline.xadd(task["reply_to"], {"task_id": task["task_id"], **answer(task)})
                    pipeline.xdel(TASKS, entry_id)
                    pipeline.execute()

    thread = Thread(target=work)
    thread.start()
    try:
        yield taken
    finally:
        done.set()
        thread.join()


def task_file(path: Path, count: int) -> Path:
    path.write_text("".join(f'{{"task_id": "t{number}", "text": "{number}"}}\n\n' for number in range(count)))
    return path


def numbers(path: Path) -> list[int]:
    return np.load(path)[:, 0].astype(int).tolist()


def test_answers_out_of_order_are_written_in_order(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    source = task_file(tmp_path / "t.jsonl", 5000)
    with answering(client) as taken:
        summary = cli.json("embed", source, "--out", "v.npy", "--model", "m", "--json")
    assert (summary["vectors"], summary["failed"]) == (5000, {})
    assert len(taken) == 5000
    assert {task["model"] for task in taken} == {"m"}
    assert numbers(tmp_path / "v.npy") == [*range(5000)]
    lines = (tmp_path / "v.ids.jsonl").read_text().splitlines()
    assert [json.loads(line)["task_id"] for line in lines] == [f"t{number}" for number in range(5000)]
    assert client.keys("embedding_results*") == []


def test_only_a_window_of_tasks_is_under_way(
    cli: Cli, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "WINDOW", 600)
    longest = []

    def answer(task: dict[str, Any]) -> dict[str, str]:
        longest.append(client.xlen(TASKS))
        return good(task)

    with answering(client, answer):
        cli("embed", task_file(tmp_path / "t.jsonl", 3000), "--out", "v.npy")
    assert 256 <= max(longest) <= 600


def test_failures_are_told_by_code_with_the_first_of_each(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    def answer(task: dict[str, Any]) -> dict[str, str]:
        number = int(task["text"])
        if number % 10 == 3:
            return {"status": "error", "error": "expired", "detail": f"number {number} is late"}
        return good(task) | ({"embedding": "!"} if number == 42 else {})

    with answering(client, answer):
        result = cli("embed", task_file(tmp_path / "t.jsonl", 100), "--out", "v.npy", code=1)
    assert result.stderr.splitlines()[-1] == "Error: 11 of 100 inputs failed"
    assert "89 vectors of m (4 numbers) in v.npy" in result.stdout
    told = [line.split("│")[1:4] for line in result.stdout.splitlines() if line.startswith("│")]
    codes, counts, examples = zip(*([cell.strip() for cell in row] for row in told), strict=True)
    assert codes == ("expired", "", "", "unreadable")
    assert counts == ("10", "", "", "1")
    assert all(example.startswith("t") and example.endswith("3 is late") for example in examples[:3])
    assert examples[3].startswith("t42: ")
    assert numbers(tmp_path / "v.npy") == [number for number in range(100) if number % 10 != 3 and number != 42]


def test_a_run_goes_on_after_an_error(
    cli: Cli, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, flush = task_file(tmp_path / "t.jsonl", 1000), Journal.flush
    monkeypatch.setattr(replies, "PAGE", 50)

    def breaking(journal: Journal) -> None:
        flush(journal)
        if journal.answered >= 100:
            monkeypatch.setattr(Journal, "flush", flush)
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "flush", breaking)
    with answering(client) as taken:
        said = cli.failure("embed", source, "--out", "v.npy")
        assert said.startswith("[Errno 28] No space left on device; ")
        assert said.endswith("answered; the same command goes on")
        (mark,) = client.keys("*:sent")
        for key in (mark, mark.removesuffix(b":sent")):
            assert 0 < client.ttl(key) <= exchange.ANSWERS_KEPT_S, "what is never continued is not kept for ever"
        cli("embed", source, "--out", "v.npy")
    assert len(taken) == 1000, "no task was sent twice"
    assert numbers(tmp_path / "v.npy") == [*range(1000)]
    assert client.keys("embedding_results*") == []


def test_a_server_that_forgot_the_run_is_asked_for_the_unanswered_only(
    cli: Cli, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, flush = task_file(tmp_path / "t.jsonl", 400), Journal.flush
    monkeypatch.setattr(replies, "PAGE", 50)

    def breaking(journal: Journal) -> None:
        flush(journal)
        monkeypatch.setattr(Journal, "flush", flush)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "flush", breaking)
    with answering(client):
        cli.failure("embed", source, "--out", "v.npy")
    client.flushdb()
    kept = int(np.count_nonzero(np.load(tmp_path / "v.npy.part" / "states.npy")))
    with answering(client) as taken:
        cli("embed", source, "--out", "v.npy")
    assert len(taken) == 400 - kept
    assert numbers(tmp_path / "v.npy") == [*range(400)]


def test_vectors_of_two_models_do_not_go_into_one_file(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    with answering(client, lambda task: good(task) | {"model": f"m{int(task['text']) % 2}"}):
        said = cli.failure("embed", task_file(tmp_path / "t.jsonl", 10), "--out", "v.npy")
    assert "(4 numbers) as base64_fp32 among vectors of m" in said
    assert not (tmp_path / "v.npy").exists()


def test_another_file_does_not_continue_a_run(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    with answering(client, lambda task: good(task) | {"model": task["text"]}):
        cli.failure("embed", task_file(tmp_path / "t.jsonl", 10), "--out", "v.npy")
    source = task_file(tmp_path / "t.jsonl", 11)
    said = cli.failure("embed", source, "--out", "v.npy")
    assert said == "v.npy.part belongs to an unfinished run, which differs in contents, size; --force begins anew"
    with answering(client):
        cli("embed", source, "--out", "v.npy", "--force")
    assert numbers(tmp_path / "v.npy") == [*range(11)]
    assert cli.failure("embed", source, "--out", "v.npy") == "v.npy is there already; --force replaces it"


def test_a_run_belongs_to_one_process(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    source = task_file(tmp_path / "t.jsonl", 10)
    with answering(client, lambda task: good(task) | {"model": task["text"]}):
        cli.failure("embed", source, "--out", "v.npy")
    with (tmp_path / "v.npy.part" / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli.failure("embed", source, "--out", "v.npy") == "another process is at work on v.npy.part"


def test_the_wait_for_a_worker_is_explained(
    cli: Cli, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "AFTER_S", 0)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            client.zadd(keys.WORKERS, {"w1": client.time()[0]})
            client.hset(keys.worker("w1"), mapping={"state": "degraded", "problem": "the device stands still"})
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(exchange, "say", say)
    result = cli("embed", task_file(tmp_path / "t.jsonl", 3), "--out", "v.npy", code=130)
    assert result.stderr == "Error: interrupted; 0 answered; the same command goes on\n"
    assert said[0].endswith(": no worker is alive (embedding:workers)")
    assert "embedding_tasks holds 3 entries; w1 is degraded, the device stands still, 0 in flight, 0.0/s" in said[1]


def test_what_cannot_begin_says_why(
    cli: Cli, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = task_file(tmp_path / "t.jsonl", 1)
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": 1}\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    assert "bad.jsonl, line 2: text: " in cli.failure("embed", "bad.jsonl", "--out", "v.npy")
    assert cli.failure("embed", "empty.jsonl", "--out", "v.npy") == "there is nothing to embed in empty.jsonl"
    assert "ends in neither .npy nor .parquet" in cli.failure("embed", source, "--out", "v.csv", code=2)
    assert "--by is for a folder" in cli.failure("embed", source, "--out", "v.npy", "--by", "path", code=2)
    assert "streams.reply_to_allow has no pattern for" in cli.failure(
        "embed", source, "--out", "v.npy", STREAMS__REPLY_TO_ALLOW='["embedding_results"]'
    )
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert cli.failure("embed", source, "--out", "v.parquet") == (
        "a .parquet file needs pyarrow: pip install 'legit-embedding[parquet]'"
    )
    assert client.keys("*") == []
    assert not [*tmp_path.glob("v.*")]
