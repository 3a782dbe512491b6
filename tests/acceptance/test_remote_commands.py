"""Remote commands with odd values: refused in words, and nothing has changed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients import PREPARE_TEXT, Client

THREADS = 3


@pytest.fixture(scope="module")
def shared_args():
    return ("-c", str(THREADS))


def ask(client: Client, command: str, **arguments: Any) -> dict[str, Any]:
    [reply] = client.app.control.broadcast(command, arguments=arguments, reply=True, timeout=10, limit=1)
    [answer] = reply.values()
    return answer


def standing(client: Client) -> dict[str, Any]:
    """What the commands could have changed."""
    inspect = client.app.control.inspect(timeout=10, limit=1)
    [stats] = inspect.stats().values()
    [queues] = inspect.active_queues().values()
    [registered] = inspect.registered("rate_limit", "time_limit", "soft_time_limit").values()
    batching = ask(client, "batching")["ok"]["models"]
    return {
        "threads": stats["pool"]["max-concurrency"],
        "queues": [queue["name"] for queue in queues],
        "tasks": registered,
        "models": {
            name: [each[key] for key in ("weight", "linger_ms", "max_batch")] for name, each in batching.items()
        },
    }


REFUSED = {
    "pool_grow": [{"n": n} for n in (-5, 0, 1.5, 10**9, 10**400, "3", None, True, [1])],
    "pool_shrink": [{"n": n} for n in (-5, 0, 1.5, THREADS, 10**9, "1", None)],
    "autoscale": [{"max": -1, "min": 0}, {"max": 2.5}, {"max": "4", "min": "1"}, {"max": 10**9}],
    "batching": [
        {"model": "null-text", "weight": weight}
        for weight in (1e308, -1, 0, "nan", "inf", "-inf", "heavy", None, [1], {"a": 1}, True)
    ]
    + [{"model": "null-text", "linger_ms": value} for value in (-1, 1e308, "nan", "soon")]
    + [{"model": "null-text", "max_batch": value} for value in (0, -1, 1.5, 10**12, "many")]
    + [{"model": "null-text", "weight": 2, "max_batch": 0}, {"model": 5, "weight": 2}, {"words": 5}, {"words": [5]}],
    "rate_limit": [
        {"task_name": PREPARE_TEXT, "rate_limit": value}
        for value in ("-5/s", "nan/m", "inf", "1e308", "5/fortnight", "fast", [1], {"a": 1}, -1, True)
    ]
    + [{"task_name": 5, "rate_limit": "1/s"}, {"task_name": ["a"], "rate_limit": "1/s"}],
    "time_limit": [{"task_name": PREPARE_TEXT, "soft": value} for value in (-1, 0, "1", 1e308, [1], True)]
    + [{"task_name": PREPARE_TEXT, "hard": -1, "soft": 5}],
    "add_consumer": [
        {"queue": 5},
        {"queue": ""},
        {"queue": "a\nb"},
        {"queue": ["a"]},
        {"queue": "q", "exchange_type": "odd"},
        {"queue": "q", "routing_key": 5},
    ],
    "cancel_consumer": [{"queue": 5}, {"queue": None}],
    "revoke": [
        {"task_id": 5},
        {"task_id": [5]},
        {"task_id": None},
        {"task_id": {"a": 1}},
        {"task_id": "t", "terminate": True, "signal": "NOPE"},
        {"task_id": "t", "terminate": True, "signal": -7},
    ],
    "terminate": [{"signal": "TERM", "task_id": 5}, {"signal": "kill -9", "task_id": "t"}],
    "revoke_by_stamped_headers": [{"headers": 5}, {"headers": "x"}, {"headers": ["x"]}],
}


@pytest.mark.parametrize("command", REFUSED)
def test_odd_values_are_refused_in_words_and_change_nothing(shared_client, command):
    before = standing(shared_client)
    for arguments in REFUSED[command]:
        answer = ask(shared_client, command, **arguments)
        assert set(answer) == {"error"}, (arguments, answer)
        problem = answer["error"]
        assert " " in problem, (arguments, answer)
        assert "Error(" not in problem, (arguments, answer)
        assert len(problem) < 600
    assert standing(shared_client) == before
    assert shared_client.text("x").get(timeout=20)["status"] == "ok"


def test_good_values_change_what_they_say(shared_client):
    assert "ok" in ask(shared_client, "pool_grow", n=2)
    assert "ok" in ask(shared_client, "pool_shrink")
    assert standing(shared_client)["threads"] == THREADS + 1
    assert "ok" in ask(shared_client, "pool_shrink", n=THREADS)
    assert standing(shared_client)["threads"] == 1
    assert "keeps it" in ask(shared_client, "pool_shrink")["error"]
    assert shared_client.text("x").get(timeout=20)["status"] == "ok"
    assert "ok" in ask(shared_client, "pool_grow", n=THREADS - 1)
    assert "ok" in ask(shared_client, "time_limit", task_name="tests.tasks.add", soft=5, hard=None)
    assert "ok" in ask(shared_client, "rate_limit", task_name="tests.tasks.add", rate_limit="100/s")
    assert "ok" in ask(shared_client, "rate_limit", task_name="tests.tasks.add", rate_limit=0)
    assert "ok" in ask(shared_client, "batching", model="null-text", weight=2)
    assert shared_client.send("tests.tasks.add", 1, 2).get(timeout=20) == 3
