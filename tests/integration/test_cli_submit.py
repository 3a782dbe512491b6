from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
import redis

from legit_embedding.cli.submit import feeder
from tests.unit.cli.invoking import Cli
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

TASKS = "embedding_tasks"


def task_file(path: Path, count: int) -> Path:
    path.write_text("".join(f"{json.dumps({'task_id': f't{number}', 'text': 'x'})}\n" for number in range(count)))
    return path


def sent(client: redis.Redis) -> list[dict[str, Any]]:
    entries = client.xrange(TASKS)
    assert all(set(fields) == {b"payload"} for _, fields in entries)
    return [json.loads(fields[b"payload"]) for _, fields in entries]


def test_a_file_is_sent_in_its_order(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    summary = cli.json("submit", task_file(tmp_path / "t.jsonl", 1000), "--app", "shop", "--json")
    assert [task["task_id"] for task in sent(client)] == [f"t{number}" for number in range(1000)]
    assert sent(client)[0] == {"task_id": "t0", "text": "x", "app": "shop"}
    assert set(summary) == {"stream", "sent", "left_out", "seconds", "per_s", "waited_s"}
    assert (summary["stream"], summary["sent"], summary["left_out"], summary["waited_s"]) == (TASKS, 1000, 0, 0)
    assert summary["per_s"] == pytest.approx(1000 / summary["seconds"], rel=0.2)


def test_people_get_one_line(cli: Cli, tmp_path: Path) -> None:
    result = cli("submit", task_file(tmp_path / "t.jsonl", 1000))
    assert result.stdout.startswith("1,000 tasks into embedding_tasks in ")
    assert result.stderr == ""


def test_standard_input(cli: Cli, client: redis.Redis) -> None:
    cli("submit", "-", stdin='{"text": "Zürich"}\n\n{"text": "b"}\n')
    assert [task["text"] for task in sent(client)] == ["Zürich", "b"]


def test_a_bad_line_of_a_file_stops_it_before_anything_is_sent(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    path = task_file(tmp_path / "t.jsonl", 600)
    with path.open("a") as file:
        file.write('{"text": 4}\n')
    failure = cli.failure("submit", path)
    assert failure == f"{path}, line 601: text: Input should be a valid string"
    assert client.xlen(TASKS) == 0


def test_a_bad_line_of_standard_input_says_where_to_go_on(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    lines = task_file(tmp_path / "t.jsonl", 600).read_text()
    failure = cli.failure("submit", "-", stdin=f"{lines}rubbish\n")
    assert failure.startswith("standard input, line 601: not JSON")
    assert failure.endswith("; 512 tasks sent; go on with --skip 512")
    cli("submit", "-", "--skip", 512, stdin=lines)
    assert [task["task_id"] for task in sent(client)] == [f"t{number}" for number in range(600)]


def test_a_lost_server_says_where_to_go_on(own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder, "BATCH", 10)
    monkeypatch.chdir(tmp_path)
    path = task_file(tmp_path / "t.jsonl", 1000)
    commit = feeder.Feeder._commit

    def killed(self: feeder.Feeder, batch: list[feeder.Item]) -> None:
        if batch[0].position == 501:
            own_server.kill()
        commit(self, batch)

    monkeypatch.setattr(feeder.Feeder, "_commit", killed)
    failure = Cli(REDIS_URL=own_server.url).failure("submit", path)
    assert failure.startswith("Redis: ")
    assert "; 500 tasks sent, and whether the next 10 arrived is not known; go on with --skip 500" in failure
    own_server.start()
    with own_server.client() as client:
        assert client.xlen(TASKS) == 500


def test_a_folder_by_path(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "below").mkdir(parents=True)
    for name in ("a.jpg", "below/b.png", "readme.txt"):
        (images / name).write_bytes(name.encode())
    result = cli("submit", images, "--model", "m", "--reply-to", "embedding_results:me")
    assert "warning: " in result.stderr
    assert sent(client) == [
        {"task_id": "a.jpg", "image_path": f"{images}/a.jpg", "model": "m", "reply_to": "embedding_results:me"},
        {
            "task_id": "below/b.png",
            "image_path": f"{images}/below/b.png",
            "model": "m",
            "reply_to": "embedding_results:me",
        },
    ]
    assert cli("submit", images, IMAGE_ROOTS=json.dumps([str(tmp_path)])).stderr == ""


def test_a_folder_by_content(cli: Cli, client: redis.Redis, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 one")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8 too large")
    result = cli("submit", tmp_path, "--by", "content", "--json", FETCH__MAX_BYTES="8")
    (task,) = sent(client)
    assert base64.b64decode(task["image_b64"]) == b"\xff\xd8 one"
    assert json.loads(result.stdout)["left_out"] == 1
    assert "left out: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("absent.jsonl",), "does not exist"),
        (("-", "--by", "path"), "--by is for a folder of images"),
        (("-", "--reply-to", "elsewhere"), "--reply-to: 'elsewhere' is outside streams.reply_to_allow"),
        (("-", "--max-length", "0"), "max-length"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], expected: str, cli: Cli) -> None:
    assert expected in cli.failure("submit", *arguments, code=2)


def test_back_pressure(cli: Cli, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder, "POLL_S", 0.005)
    taken: list[int] = []
    longest = 0

    def work() -> None:
        nonlocal longest
        while len(taken) < 500:
            longest = max(longest, client.xlen(TASKS))
            entries = client.xrange(TASKS, count=20)
            taken.extend(int(json.loads(fields[b"payload"])["task_id"][1:]) for _, fields in entries)
            if entries:
                client.xdel(TASKS, *(entry for entry, _ in entries))

    worker = Thread(target=work, daemon=True)
    worker.start()
    result = cli("submit", task_file(tmp_path / "t.jsonl", 500), "--max-length", 50, "--json")
    worker.join(20)
    assert result.stderr == "waiting for the stream to become shorter: it holds 50 entries\n"
    assert taken == list(range(500))
    assert 0 < longest <= 50
    assert json.loads(result.stdout)["waited_s"] > 0


def test_ctrl_c_says_where_to_go_on(redis_url: str, tmp_path: Path) -> None:
    path = task_file(tmp_path / "t.jsonl", 500)
    with (
        redis.Redis.from_url(redis_url) as client,
        subprocess.Popen(
            [sys.executable, "-m", "legit_embedding.cli", "submit", str(path), "--max-length", "100"],
            env=os.environ
            | {"LEGIT_REDIS_URL": redis_url, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        ) as process,
    ):
        wait_for(lambda: client.xlen(TASKS) == 100, 20, "the stream to be full")
        # It knows that they have arrived when it asks whether there is room again.
        wait_for(lambda: any(row["cmd"] == "xlen" for row in client.client_list()), 20, "it to wait for room")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "Error: interrupted; 100 tasks sent; go on with --skip 100"
