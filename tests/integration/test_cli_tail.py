from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
import redis

from legit_embedding.cli.results import results as results_module
from legit_embedding.cli.shared.lazy import INTERRUPTED
from tests.unit.cli.result_entries import bad, good, vector
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server
    from tests.unit.cli.invoking import Cli

RESULTS = "embedding_results"


def write(client: redis.Redis, *entries: dict[str, str], stream: str = RESULTS) -> list[str]:
    with client.pipeline(transaction=False) as pipeline:
        for fields in entries:
            pipeline.xadd(stream, fields)
        return [entry.decode() for entry in pipeline.execute()]


def task_ids(lines: list[dict]) -> list[str]:
    return [line["task_id"] for line in lines]


def test_every_result_as_a_line(cli: Cli, client: redis.Redis) -> None:
    ids = write(client, *(good(number) for number in range(600)), bad(600))
    lines = cli.lines("tail")
    assert [line["id"] for line in lines] == ids
    assert task_ids(lines) == [f"t{number}" for number in range(601)]
    assert np.array_equal(np.array(lines[599]["embedding"], dtype=np.float32), vector(599))
    assert lines[600]["error"] == "undecodable"


def test_nothing_to_read(cli: Cli) -> None:
    assert cli.lines("tail") == []


def test_where_it_begins_and_ends(cli: Cli, client: redis.Redis) -> None:
    ids = write(client, *(good(number) for number in range(10)))
    assert task_ids(cli.lines("tail", "--count", 3)) == ["t0", "t1", "t2"]
    assert task_ids(cli.lines("tail", "--from", ids[7])) == ["t8", "t9"]
    assert task_ids(cli.lines("tail", "--from", "0", "--count", 1)) == ["t0"]
    assert cli.lines("tail", "--from", "$") == []
    assert cli.lines("tail", "--from", ids[9]) == []


def test_filters_count_what_they_let_through(cli: Cli, client: redis.Redis) -> None:
    models = ("minilm", "eva")
    write(client, *(good(number, model=models[number % 2]) for number in range(600)), bad(600, app="shop"))
    assert task_ids(cli.lines("tail", "--model", "eva", "--count", 200)) == [f"t{2 * at + 1}" for at in range(200)]
    assert task_ids(cli.lines("tail", "--status", "error", "--app", "shop")) == ["t600"]
    assert cli.lines("tail", "--app", "other") == []


def test_another_stream(cli: Cli, client: redis.Redis) -> None:
    write(client, good(1), stream="embedding_results:shop")
    assert task_ids(cli.lines("tail", "--stream", "embedding_results:shop")) == ["t1"]


def test_vectors_are_optional(cli: Cli, client: redis.Redis) -> None:
    write(client, good(1))
    assert "embedding" not in cli.lines("tail", "--vectors", "none")[0]
    assert cli.lines("tail", "--vectors", "base64")[0]["embedding"] == good(1)["embedding"]


def test_to_an_array(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    write(client, *(good(number) for number in range(600)), bad(600))
    result = cli("tail", "--npy", "v.npy")
    assert result.stdout == ""
    assert result.stderr.startswith("600 vectors of 4 numbers in v.npy, their ids in v.ids.jsonl")
    array = np.load(tmp_path / "v.npy")
    assert all(np.array_equal(row, vector(number)) for number, row in enumerate(array))
    assert task_ids([json.loads(line) for line in (tmp_path / "v.ids.jsonl").read_text().splitlines()])[-1] == "t599"
    assert "--force replaces it" in cli.failure("tail", "--npy", "v.npy")
    cli("tail", "--npy", "v.npy", "--force", "--count", 1)
    assert np.load(tmp_path / "v.npy").shape == (1, 4)


def test_to_parquet(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    ids = write(client, *(good(number) for number in range(600)), bad(600))
    cli("tail", "--parquet", "r.parquet")
    rows = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row["id"] for row in rows] == ids
    assert np.array_equal(np.array(rows[5]["embedding"], dtype=np.float32), vector(5))
    assert rows[600]["embedding"] is None


def test_a_file_is_whole_after_an_error(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    write(client, *(good(number) for number in range(300)), good(300, dim=9))
    assert "--model chooses" in cli("tail", "--npy", "v.npy", code=1).stderr
    assert np.load(tmp_path / "v.npy").shape == (300, 4)


def test_memory_does_not_grow_with_the_stream(cli: Cli, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "PAGE", 64)
    write(client, *(good(number, dim=1024) for number in range(2000)))
    cli("tail", "--npy", "warm.npy", "--count", 100)
    tracemalloc.start()
    try:
        cli("tail", "--npy", "v.npy")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000, f"{peak:,} bytes; the vectors alone are 8,192,000"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--npy", "a.npy", "--parquet", "a.parquet"), "either --npy or --parquet"),
        (("--from", "yesterday"), "'yesterday' is not an entry id like 1700000000000-0"),
        (("--vectors", "hex"), "hex"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], expected: str, cli: Cli) -> None:
    assert expected in cli.failure("tail", *arguments, code=2)


def following(url: str, directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "legit_embedding.cli", "tail", "--follow", *arguments],
        env=os.environ | {"LEGIT_REDIS_URL": url, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
    )


def test_follow_waits_for_more_until_ctrl_c(redis_url: str, tmp_path: Path) -> None:
    with (
        redis.Redis.from_url(redis_url) as client,
        following(redis_url, tmp_path, "--from", "0", "--vectors", "none") as process,
    ):
        for number in range(3):
            write(client, good(number))
            assert json.loads(process.stdout.readline())["task_id"] == f"t{number}"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout, stderr) == (INTERRUPTED, "", "")


def test_follow_finishes_its_file_at_ctrl_c(redis_url: str, tmp_path: Path) -> None:
    with (
        redis.Redis.from_url(redis_url) as client,
        following(redis_url, tmp_path, "--from", "0", "--npy", "v.npy") as process,
    ):
        write(client, good(1), good(2))
        ids = tmp_path / "v.ids.jsonl"
        wait_for(lambda: ids.exists() and ids.read_text().count("\n") == 2, 20, "two vectors in the file")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == INTERRUPTED
    assert stderr.startswith("2 vectors of 4 numbers in v.npy")
    assert np.load(tmp_path / "v.npy").shape == (2, 4)


def test_follow_ends_at_its_count_and_begins_with_what_comes(cli: Cli, client: redis.Redis) -> None:
    write(client, good(1))
    after = write(client, good(2))[0]
    write(client, good(3))
    assert task_ids(cli.lines("tail", "--follow", "--from", after, "--count", 1)) == ["t3"]


def test_follow_outlives_its_server(own_server: Server, tmp_path: Path) -> None:
    with following(own_server.url, tmp_path, "--from", "0", "--vectors", "none") as process:
        with own_server.client(decode_responses=False) as client:
            write(client, good(1))
        assert json.loads(process.stdout.readline())["task_id"] == "t1"
        own_server.kill()
        assert "trying again" in process.stderr.readline()
        own_server.start()
        with own_server.client(decode_responses=False) as client:
            write(client, good(2))
        assert json.loads(process.stdout.readline())["task_id"] == "t2", "not the first one again"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == INTERRUPTED


def test_a_closed_pipe_is_no_error(redis_url: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_url) as client, following(redis_url, tmp_path, "--from", "0") as process:
        write(client, *(good(number) for number in range(100)))
        process.stdout.readline()
        process.stdout.close()
        wait_for(lambda: write(client, *(good(number) for number in range(100))) and process.poll(), 20, "its end")
        assert process.stderr.read() == ""
