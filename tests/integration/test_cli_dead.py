from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import redis

from legit_embedding.config import StreamConfig
from legit_embedding.dead_letter.store import DeadLetter

if TYPE_CHECKING:
    from tests.unit.cli.invoking import Cli

TASKS, DEAD = "embedding_tasks", "embedding_tasks:dead"


def bury(client: redis.Redis, *fields: bytes | str, reason: str = "max_deliveries", stream: str = TASKS) -> str:
    """Write a dead entry as a worker does: the original fields, then what is said about them."""
    said = ("dead_reason", reason, "dead_detail", f"why {reason}", "deliveries", "5", "original_stream", stream)
    said += ("original_id", "1-0", "dead_at", "1700000000000")
    return client.execute_command("XADD", DEAD, "*", *fields, *said).decode()


def bury_many(client: redis.Redis, count: int) -> list[str]:
    reasons = ("max_deliveries", "unreadable")
    return [bury(client, "payload", f"{number}", reason=reasons[number % 2]) for number in range(count)]


def raw(client: redis.Redis, stream: str) -> list[list[bytes]]:
    """Every entry's fields as they are, duplicates included."""
    with client.pipeline() as pipeline:
        pipeline.response_callbacks = {}
        pipeline.execute_command("EVAL", "return redis.call('XRANGE', KEYS[1], '-', '+')", 1, stream)
        return [fields for _, fields in pipeline.execute()[0]]


def test_list_shows_pages(cli: Cli, client: redis.Redis) -> None:
    ids = bury_many(client, 130)
    seen, after = [], "0"
    while after:
        page = cli.json("dead", "list", "--json", "--count", 50, "--after", after)
        assert (page["stream"], page["length"]) == (DEAD, 130)
        seen += page["entries"]
        after = page["next"]
    assert [entry["id"] for entry in seen] == ids
    assert seen[0] == {
        "id": ids[0],
        "bytes": seen[0]["bytes"],
        "dead_reason": "max_deliveries",
        "dead_detail": "why max_deliveries",
        "deliveries": "5",
        "original_stream": TASKS,
        "original_id": "1-0",
        "dead_at": "1700000000000",
    }


def test_list_filters_by_reason_over_pages(cli: Cli, client: redis.Redis) -> None:
    ids = bury_many(client, 130)
    page = cli.json("dead", "list", "--json", "--count", 65, "--reason", "unreadable")
    assert [entry["id"] for entry in page["entries"]] == ids[1::2]
    assert page["next"] is None
    assert cli.json("dead", "list", "--json", "--reason", "nothing")["entries"] == []


def test_list_is_a_table_that_no_task_can_write_to(cli: Cli, client: redis.Redis) -> None:
    bury(client, "payload", "x", reason="\x1b[2J[red]")
    bury_many(client, 20)
    result = cli("dead", "list")
    assert "20 of 21" in result.stdout
    assert r"\x1b[2J[red]" in result.stdout
    assert "\x1b" not in result.stdout
    assert "there are more: --after " in result.stderr


def test_list_does_not_fetch_what_the_tasks_carry(cli: Cli, client: redis.Redis) -> None:
    for _ in range(5):
        bury(client, "image_b64", "x" * 1_000_000)
    before = client.info("stats")["total_net_output_bytes"]
    assert cli.json("dead", "list", "--json")["entries"][0]["bytes"] > 1_000_000
    assert client.info("stats")["total_net_output_bytes"] - before < 100_000


def test_list_of_nothing(cli: Cli) -> None:
    assert cli.json("dead", "list", "--json") == {"stream": DEAD, "length": 0, "entries": [], "next": None}
    assert "0 of 0" in cli("dead", "list").stdout


def test_show(cli: Cli, client: redis.Redis) -> None:
    payload = json.dumps({"task_id": "t1", "image_b64": "A" * 5000})
    entry = bury(client, "payload", payload, b"\xff", b"\x1b\xfe")
    found = cli.json("dead", "show", entry, "--json")
    assert found["id"] == entry
    assert found["fields"]["payload"] == payload
    assert found["fields"]["\\xff"] == "\x1b\\xfe"
    shown = cli("dead", "show", entry).stdout
    assert '"task_id": "t1"' in shown
    assert "more characters" in shown
    assert "\x1b" not in shown
    assert "more characters" not in cli("dead", "show", entry, "--full").stdout


def test_show_what_is_not_there(cli: Cli) -> None:
    assert cli.failure("dead", "show", "1-0") == f"there is no entry 1-0 in {DEAD}"
    assert "is not an entry id" in cli.failure("dead", "show", "first", code=2)


def test_requeue_brings_the_original_fields_back_byte_by_byte(cli: Cli, client: redis.Redis) -> None:
    first = bury(client, "task_id", "t1", "text", b"\xff\x00\r\n", "task_id", "twice", "deliveries", "its own")
    second = bury(client, "payload", '{"text": "left"}')
    (outcome,) = cli.lines("dead", "requeue", first, "--json")
    ((new_id, _),) = client.xrange(TASKS)
    assert outcome == {"id": first, "new_id": new_id.decode(), "problem": None}
    assert raw(client, TASKS) == [
        [b"task_id", b"t1", b"text", b"\xff\x00\r\n", b"task_id", b"twice", b"deliveries", b"its own"]
    ]
    assert [entry.decode() for entry, _ in client.xrange(DEAD)] == [second]


def test_requeue_all_keeps_the_order_and_leaves_nothing(cli: Cli, client: redis.Redis) -> None:
    bury_many(client, 130)
    assert "130 back in the task stream, 0 left" in cli("dead", "requeue", "--all").stdout
    assert [int(fields[b"payload"]) for _, fields in client.xrange(TASKS)] == list(range(130))
    assert client.xlen(DEAD) == 0


def test_requeue_all_of_one_reason(cli: Cli, client: redis.Redis) -> None:
    bury_many(client, 130)
    cli("dead", "requeue", "--all", "--reason", "unreadable")
    assert [int(fields[b"payload"]) for _, fields in client.xrange(TASKS)] == list(range(1, 130, 2))
    assert [int(fields[b"payload"]) for _, fields in client.xrange(DEAD)] == list(range(0, 130, 2))


def test_requeue_twice_at_once_doubles_nothing(cli: Cli, client: redis.Redis, any_redis_url: str) -> None:
    ids = bury_many(client, 200)

    def requeue(_: int) -> int:
        with redis.Redis.from_url(any_redis_url) as other:
            letter = DeadLetter(other, StreamConfig())
            return sum(outcome.new_id is not None for entry in ids for outcome in letter.requeue([entry]))

    with ThreadPoolExecutor(3) as threads:
        assert sum(threads.map(requeue, range(3))) == 200
    assert sorted(int(fields[b"payload"]) for _, fields in client.xrange(TASKS)) == list(range(200))


def test_requeue_leaves_what_cannot_go_back_where_it_is(cli: Cli, client: redis.Redis) -> None:
    foreign = bury(client, "payload", "x", stream="other_tasks")
    empty = bury(client)
    wide = bury(client, *(part for number in range(4000) for part in (f"f{number}", "x")))
    fine = bury(client, "payload", "fine")
    outcomes = cli.lines("dead", "requeue", foreign, "1-0", empty, wide, fine, "--json", code=1)
    problems = [outcome["problem"] for outcome in outcomes]
    assert problems[0] == 'it came from the stream "other_tasks", not from "embedding_tasks"'
    assert problems[1] == "there is no such entry"
    assert problems[2] == "it has 0 fields of its own"
    assert problems[3] == "it has 4000 fields of its own"
    assert problems[4] is None
    assert [entry.decode() for entry, _ in client.xrange(DEAD)] == [foreign, empty, wide]
    result = cli("dead", "requeue", foreign, code=1)
    assert "0 back in the task stream, 1 left in embedding_tasks:dead" in result.stdout
    assert result.stderr == f'{foreign}: it came from the stream "other_tasks", not from "embedding_tasks"\n'


def test_requeue_loses_nothing_when_the_task_stream_refuses(cli: Cli, client: redis.Redis) -> None:
    entry = bury(client, "payload", "x")
    client.set(TASKS, "no stream")
    (outcome,) = cli.lines("dead", "requeue", entry, "--json", code=1)
    assert "WRONGTYPE" in outcome["problem"]
    assert client.xlen(DEAD) == 1


def test_purge_asks_first(cli: Cli, client: redis.Redis) -> None:
    ids = bury_many(client, 3)
    cli("dead", "purge", "--all", stdin="n\n", code=1)
    assert client.xlen(DEAD) == 3
    result = cli("dead", "purge", ids[1], stdin="y\n")
    assert "Throw away 1 entry of embedding_tasks:dead for good?" in result.stderr
    assert "1 thrown away" in result.stdout
    assert [entry.decode() for entry, _ in client.xrange(DEAD)] == [ids[0], ids[2]]


def test_purge_some_or_all(cli: Cli, client: redis.Redis) -> None:
    ids = bury_many(client, 130)
    assert cli.json("dead", "purge", ids[0], ids[0], "1-0", "--yes", "--json") == {"purged": 1, "missing": 1}
    assert cli.json("dead", "purge", "--all", "--reason", "unreadable", "--yes", "--json")["purged"] == 65
    assert client.xlen(DEAD) == 64
    assert cli.json("dead", "purge", "--all", "--yes", "--json") == {"purged": 64, "missing": 0}
    assert client.xlen(DEAD) == 0


@pytest.mark.parametrize("command", ["requeue", "purge"])
@pytest.mark.parametrize("arguments", [(), ("1-0", "--all"), ("1-0", "--reason", "x")])
def test_what_to_work_on_must_be_clear(command: str, arguments: tuple[str, ...], cli: Cli) -> None:
    assert "--all" in cli.failure("dead", command, *arguments, code=2)
