"""Messages that no task can be made of: each is taken out once, its neighbours are answered, and the worker lives."""

from __future__ import annotations

import base64
import copy
import json
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clients import PREPARE_TEXT
from tests.workers import wait_for

DEAD_LETTER = "embedding_tasks:dead"
DEEP = 10_000
ABSENT = object()
ODD = {
    "null": None,
    "true": True,
    "a number": 5,
    "a fraction": 1.5,
    "an endless number": float("inf"),
    "an empty string": "",
    "a string": "x",
    "an empty list": [],
    "a list": [1],
    "an empty object": {},
    "an object": {"a": 1},
}


def message(task_id="a", *, kwargs=None, embed=None, args=None):
    """A good message of Celery's second protocol, as kombu puts it onto a Redis list."""
    task = {"task_id": task_id, "text": "x"}
    body = [[task] if args is None else args, {} if kwargs is None else kwargs, embed]
    celery_id = str(uuid.uuid4())
    return {
        "body": encoded(body),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": PREPARE_TEXT, "id": celery_id, "root_id": celery_id, "retries": 0},
        "properties": {
            "correlation_id": celery_id,
            "delivery_info": {"exchange": "", "routing_key": "embedding"},
            "delivery_tag": str(uuid.uuid4()),
            "body_encoding": "base64",
        },
    }


def encoded(body):
    return base64.b64encode(json.dumps(body).encode()).decode()


def changed(path, value):
    """A good message with something else, or nothing, at a path."""
    changed_ = copy.deepcopy(message("odd"))
    *holders, name = path
    holder = changed_
    for each in holders:
        holder = holder[each]
    if value is ABSENT:
        del holder[name]
    else:
        holder[name] = value
    return json.dumps(changed_)


NOT_STRINGS = ["null", "true", "a number", "a list", "an object"]
PATHS = {
    "body": (("body",), [*NOT_STRINGS, "a string"]),
    "content-type": (("content-type",), NOT_STRINGS),
    "content-encoding": (("content-encoding",), ["true", "a number", "a list", "an object"]),
    "headers": (("headers",), ["null", "true", "a number", "a string", "a list", "an empty list", "an empty object"]),
    "headers.task": (("headers", "task"), [*NOT_STRINGS, "an empty list", "a string"]),
    "headers.eta": (("headers", "eta"), ["true", "a number", "a string", "a list", "an object"]),
    "headers.expires": (("headers", "expires"), ["true", "a string", "a list", "an object"]),
    "headers.timelimit": (("headers", "timelimit"), ["true", "a number", "a string", "a list", "an object"]),
    "headers.retries": (("headers", "retries"), ["true", "a fraction", "a string", "a list", "an object"]),
    "properties": (("properties",), ["null", "true", "a number", "a string", "a list", "an empty list"]),
    "delivery_tag": (("properties", "delivery_tag"), ["null", "a number", "an empty string", "a list", "an object"]),
    "delivery_info": (("properties", "delivery_info"), ["a number", "a string", "a list"]),
    "exchange": (("properties", "delivery_info", "exchange"), ["a number", "an endless number", "a list"]),
    "body_encoding": (("properties", "body_encoding"), ["true", "a number", "a string", "a list", "an object"]),
}
CASES = {
    **{f"{name} is {kind}": changed(path, ODD[kind]) for name, (path, kinds) in PATHS.items() for kind in kinds},
    "no body": changed(("body",), ABSENT),
    "no content-type": changed(("content-type",), ABSENT),
    "no properties": changed(("properties",), ABSENT),
    "no delivery_tag": changed(("properties", "delivery_tag"), ABSENT),
    "no task": changed(("headers", "task"), ABSENT),
    **{f"a body of {len(body)}": changed(("body",), encoded(body)) for body in ([], [[]], [[], {}], [[], {}, None, 1])},
    **{f"a body that is {body!r}": changed(("body",), encoded(body)) for body in (None, {}, "x", 5)},
    "arguments that are a string": changed(("body",), encoded(["x", {}, None])),
    "keywords that are a list": changed(("body",), encoded([[], [1], None])),
    "callbacks that are a number": changed(("body",), encoded([[], {}, 5])),
    "a body that is no JSON": changed(("body",), base64.b64encode(b"{").decode()),
    "a body nested too deep": changed(("body",), base64.b64encode(b"[" * DEEP + b"]" * DEEP).decode()),
    "brackets": "[" * DEEP + "]" * DEEP,
    "brackets within": changed(("headers", "x"), ABSENT if False else 0).replace(
        '"x": 0', '"x": ' + "[" * DEEP + "]" * DEEP
    ),
    **{f"JSON {text}": text for text in ("[]", "null", '"x"', "5", "{}", "true", "NaN")},
    "no JSON": "hello",
    "nothing": "",
    "bytes": "\xff\xfe",
}


@pytest.fixture
def push(shared_client):
    """Puts raw messages into the worker's queue, with good ones around each; returns the ids of the good ones."""

    def push(*raws):
        neighbours = [f"good-{uuid.uuid4()}" for _ in range(len(raws) + 1)]
        items = [json.dumps(message(neighbours[0]))]
        for raw, neighbour in zip(raws, neighbours[1:], strict=True):
            items += [raw, json.dumps(message(neighbour))]
        shared_client.redis.lpush("embedding", *items)
        return neighbours

    return push


def settled(client):
    return not client.redis.llen("embedding") and not client.redis.hlen("unacked")


def test_malformed_messages_are_taken_out_and_their_neighbours_answered(shared_worker, shared_client, push):
    shared_client.redis.delete(DEAD_LETTER)
    neighbours = push(*CASES.values())
    answers = shared_client.answers(neighbours)
    assert {answers[each]["status"] for each in neighbours} == {"ok"}
    wait_for(lambda: settled(shared_client), 30, "everything to be settled")
    assert shared_worker.running
    assert "Unrecoverable error" not in shared_worker.log
    dead = shared_client.entries(DEAD_LETTER)
    assert {each["dead_reason"] for each in dead} <= {"malformed_message"}
    harmless = {"headers is an empty list", "headers.retries is true"}
    kept = {each["message"] for each in dead}
    legible = [each for each in shared_client.entries() if each["task_id"] == "odd"]
    unseen = [name for name, raw in CASES.items() if name not in harmless and not _seen(raw, kept)]
    # What is not in the dead letter was answered, or taken as it was meant.
    assert len(unseen) <= len(legible), unseen
    assert {each["error"] for each in legible if each["status"] == "error"} == {"invalid_task"}


def _seen(raw, kept):
    return any(raw[:200] == each[:200] for each in kept) or _same(raw, kept)


def _same(raw, kept):
    try:
        tag = json.loads(raw)["properties"]["delivery_tag"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return any(isinstance(tag, str) and tag and tag in each for each in kept)


IDS = {"a number": 42, "a list": [1], "an object": {"a": 1}, "null": None, "absent": ABSENT, "true": True, "empty": ""}


@pytest.mark.parametrize("celery_id", IDS.values(), ids=IDS)
def test_an_id_of_the_wrong_type(shared_worker, shared_client, push, celery_id):
    raw = json.loads(changed(("headers", "id"), celery_id))
    task_id = f"id-{uuid.uuid4()}"
    raw["body"] = encoded([[{"task_id": task_id, "text": "x"}], {}, None])
    neighbours = push(json.dumps(raw))
    answers = shared_client.answers([task_id, *neighbours])
    assert {answers[each]["status"] for each in neighbours} == {"ok"}
    if celery_id == 42:
        assert (answers[task_id]["status"], answers[task_id]["source"]) == ("ok", "42")
    else:
        assert (answers[task_id]["status"], answers[task_id]["error"]) == ("error", "invalid_task")
    wait_for(lambda: settled(shared_client), 30, "everything to be settled")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def odd_messages(draw):
    """A good message of which some parts are anything, or gone."""
    raw = message("generated")
    for path in draw(st.lists(st.sampled_from([path for path, _ in PATHS.values()]), min_size=1, max_size=3)):
        holder = raw
        for name in path[:-1]:
            holder = holder.get(name) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder[path[-1]] = draw(json_values)
    return json.dumps(raw)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raws=st.lists(odd_messages() | json_values.map(json.dumps) | st.text(max_size=50), min_size=1, max_size=8))
def test_whatever_comes_the_neighbours_are_answered(shared_worker, shared_client, push, raws):
    neighbours = push(*(raw.encode("utf-8", "replace") for raw in raws))
    answers = shared_client.answers(neighbours, timeout=20)
    assert {answers[each]["status"] for each in neighbours} == {"ok"}
    assert shared_worker.running


def test_the_worker_stops_at_once_after_all_that(shared_worker, shared_client):
    wait_for(lambda: settled(shared_client), 30, "everything to be settled")
    assert shared_worker.stop(timeout=20) == 0
