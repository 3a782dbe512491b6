"""One object, one answer: every case goes through the task stream and through Celery, to one worker."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.clients import PREPARE_TEXT
from tests.php import has_phpredis
from tests.workers import wait_for

if TYPE_CHECKING:
    from tests.clients import Client

DEFAULT = "embedding_results"
TOLD = ("status", "error", "detail", "embedding", "metadata", "app", "model", "dim", "kind", "encoding")
PRODUCT = '{"__type__": "Product", "__value__": 3}'
KOMBU = [
    '{"__type__": "datetime", "__value__": "2024-01-02T03:04:05Z"}',
    '{"__type__": "uuid", "__value__": {"hex": "00000000-0000-0000-0000-000000000007"}}',
    '{"__type__": "decimal", "__value__": "1.10"}',
    '{"__type__": "bytes", "__value__": "x"}',
]


IN_USE = [
    *("unacked", "unacked_index", "_kombu.binding.embedding", "celery-task-meta-1"),
    *("embedding:workers", "embedding:written:1", "embedding:anything"),
    *("embedding_tasks", "embedding_tasks:dead", "embedding", "embedding\x06\x163", "embedding:3"),
]
MANY_DIGITS = "1" + "0" * 5000


def task(**fields: object) -> str:
    return json.dumps({"task_id": "ID", "text": "x"} | fields)


def metadata(text: str) -> str:
    return f'{{"task_id": "ID", "text": "x", "metadata": {text}}}'


# name, the object as JSON, what is expected: a part of the answer's fields, or a code and what its detail begins with
CASES: list[tuple[str, str, dict[str, str] | tuple[str, str]]] = [
    ("plain", task(app="shop", later=[1]), {"app": "shop"}),
    (
        "metadata",
        metadata('{"a": [1, 1.5, null, "é", {"b": true}]}'),
        {"metadata": '{"a":[1,1.5,null,"é",{"b":true}]}'},
    ),
    ("an empty map", metadata("{}"), {"metadata": "{}"}),
    ("an empty list", metadata("[]"), {"metadata": "[]"}),
    ("no metadata", metadata("null"), {"metadata": ""}),
    ("a list", metadata("[1]"), ("invalid_task", "metadata: ")),
    ("a text", metadata('"a"'), ("invalid_task", "metadata: ")),
    ("NaN", metadata('{"price": NaN}'), ("invalid_task", "metadata: ")),
    ("infinite", metadata('{"price": [1e999]}'), ("invalid_task", "metadata: ")),
    ("digits", metadata('{"n": ' + MANY_DIGITS + "}"), ("invalid_task", "metadata: ")),
    ("too large", metadata('{"a": "' + "x" * 1_100_000 + '"}'), ("too_large", "metadata: ")),
    ("another's type", metadata(PRODUCT), {"metadata": PRODUCT.replace(" ", "")}),
    *((f"kombu {n}", metadata(typed), {"metadata": typed.replace(" ", "")}) for n, typed in enumerate(KOMBU)),
    ("kombu within", metadata('{"v": [' + KOMBU[0] + "]}"), {"metadata": f'{{"v":[{KOMBU[0]}]}}'.replace(" ", "")}),
    ("a number as id", '{"task_id": NUMBER, "text": "x"}', {}),
    ("a float as id", '{"task_id": 1.5, "text": "x"}', ("invalid_task", "task_id: ")),
    ("a truth as id", '{"task_id": true, "text": "x"}', ("invalid_task", "task_id: ")),
    ("a list as id", '{"task_id": ["a"], "text": "x"}', ("invalid_task", "task_id: ")),
    ("a uuid as id", '{"task_id": ' + KOMBU[1] + ', "text": "x"}', ("invalid_task", "task_id: ")),
    ("a typed text", '{"task_id": "ID", "text": ' + KOMBU[3] + "}", ("invalid_task", "text: ")),
    ("a NaN as text", '{"task_id": "ID", "text": NaN}', ("invalid_task", "text: ")),
    ("a deadline of 400 digits", task(deadline=10**400), ("invalid_task", "deadline: ")),
    ("a deadline before time", task(deadline=-1), ("invalid_task", "deadline: ")),
    ("an infinite deadline", task(deadline=1.5).replace("1.5", "1e999"), ("invalid_task", "deadline: ")),
    ("an early deadline", task(deadline=0), ("expired", "deadline: ")),
    *((f"reply to {number}", task(reply_to=key), ("reply_to_refused", "")) for number, key in enumerate(IN_USE)),
]


@pytest.fixture(scope="module")
def shared_config() -> dict[str, Any]:
    return {"streams": {"reply_to_allow": ["*"]}}


def send_by_celery(client: Client, text: str, name: str = PREPARE_TEXT) -> str:
    """Send a message whose arguments are exactly this JSON; returns its Celery id."""
    celery_id = str(uuid.uuid4())
    message = {
        "body": base64.b64encode(f"[[{text}], {{}}, {{}}]".encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "php", "task": name, "id": celery_id, "root_id": celery_id, "ignore_result": True},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "embedding"},
            "delivery_mode": 2,
        },
    }
    client.redis.lpush("embedding", json.dumps(message))
    return celery_id


def answer(client: Client, source: str) -> dict[str, str]:
    def found() -> dict[str, str] | None:
        return next((each for each in client.entries(DEFAULT) if each["source"] == source), None)

    return wait_for(found, 30, f"the answer to {source}", interval=0.05)


def flat(text: str) -> dict[str, str] | None:
    """The object as a flat entry of the stream; None where its fields are of other types than theirs."""
    if '"task_id": "ID", "text": "x"' not in text:
        return None
    _, is_last, last = text.partition('"metadata": ')
    fields = json.loads(text, parse_int=str, parse_float=str) | ({"metadata": last[:-1]} if is_last else {})
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}


FLAT = [(name, fields, expected) for name, text, expected in CASES if (fields := flat(text))]


@pytest.mark.parametrize(("name", "fields", "expected"), FLAT, ids=[case[0] for case in FLAT])
def test_gets_the_same_answer_as_a_flat_entry(shared_client, name, fields, expected):
    source = shared_client.redis.xadd("embedding_tasks", fields).decode()
    found = answer(shared_client, source)
    assert found["task_id"] == "ID"
    if isinstance(expected, tuple):
        assert (found["status"], found["error"]) == ("error", expected[0])
        assert found["detail"].startswith(expected[1])
    else:
        assert found["status"] == "ok"
        assert {key: found.get(key, "") for key in expected} == expected


@pytest.mark.parametrize(("name", "text", "expected"), CASES, ids=[case[0] for case in CASES])
def test_gets_one_answer_at_both_doors(shared_client, name, text, expected):
    number = str(time.time_ns())
    text = text.replace("NUMBER", number).replace("ID", f"id {name}")
    by_celery = send_by_celery(shared_client, text)
    by_stream = shared_client.redis.xadd("embedding_tasks", {"payload": text}).decode()
    answers = [answer(shared_client, source) for source in (by_celery, by_stream)]
    for source, each in zip((by_celery, by_stream), answers, strict=True):
        if isinstance(expected, tuple):
            code, begins = expected
            assert (each["status"], each["error"]) == ("error", code)
            assert each["detail"].startswith(begins)
            legible = f'"id {name}"' in text
        else:
            assert each["status"] == "ok"
            assert {key: each.get(key, "") for key in expected} == expected
            legible = True
        assert each["task_id"] == ((number if "number" in name else f"id {name}") if legible else source)
    assert {key: answers[0].get(key) for key in TOLD} == {key: answers[1].get(key) for key in TOLD}


def test_a_callback_of_a_task_with_typed_metadata_is_still_celerys(shared_client):
    link = {"task": "tests.tasks.note", "args": ["linked"], "kwargs": {}, "options": {}, "immutable": True}
    celery_id = str(uuid.uuid4())
    later = '{"eta": {"__type__": "datetime", "__value__": "2024-01-02T03:04:05+00:00"}, "queue": "embedding"}'
    callback = json.dumps(link).replace('"options": {}', f'"options": {later}')
    body = f'[[{metadata(KOMBU[0]).replace("ID", "linked")}], {{}}, {{"callbacks": [{callback}]}}]'
    message = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": PREPARE_TEXT, "id": celery_id, "root_id": celery_id},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "embedding"},
        },
    }
    shared_client.redis.lpush("embedding", json.dumps(message))
    assert answer(shared_client, celery_id)["metadata"] == KOMBU[0].replace(" ", "")
    wait_for(lambda: shared_client.redis.sismember("noted", "linked"), 20, "the callback")


def test_typed_arguments_of_ordinary_tasks_are_kombus(shared_client):
    sent = shared_client.send("tests.tasks.add", uuid.UUID(int=1), 1)
    with pytest.raises(TypeError, match="UUID"):
        sent.get(timeout=20)


def test_the_first_protocol_is_read_as_it_was_sent_too(shared_client):
    celery_id = str(uuid.uuid4())
    body = f'{{"task": "{PREPARE_TEXT}", "id": "{celery_id}", "args": [{metadata(KOMBU[0])}], "kwargs": {{}}}}'
    message = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "embedding"},
        },
    }
    shared_client.redis.lpush("embedding", json.dumps(message))
    assert answer(shared_client, celery_id)["metadata"] == KOMBU[0].replace(" ", "")


PHP = """
$redis = new Redis();
$redis->connect($argv[1], (int) $argv[2]);
$redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_JSON);
$task = json_decode($argv[3], true);
echo $redis->xAdd('embedding_tasks', '*', $task), "\n";
echo $redis->xAdd('embedding_tasks', '*', ['payload' => $task]), "\n";
echo $redis->xAdd('embedding_tasks', '*', ['payload' => json_encode($task)]), "\n";
"""


@pytest.mark.skipif(not has_phpredis(), reason="php with phpredis is not installed (php-cli, php-redis)")
@pytest.mark.parametrize(
    "fields",
    [
        {"text": 'say "hi"', "app": "shop", "metadata": {"a": [1, "é"]}, "task_id": 42, "deadline": 253402300799999},
        {"text": '"To be or not to be"', "app": "shop", "reply_to": None, "metadata": []},
        {"text": "x", "app": "shop", "metadata": json.loads(PRODUCT), "task_id": "007", "return_embedding": True},
    ],
    ids=["numbers", "a quotation", "a product"],
)
def test_a_serializer_of_php_changes_nothing(shared_client, shared_url, fields):
    address = urlsplit(shared_url)
    command = ["php", "-r", PHP, "--", str(address.hostname), str(address.port), json.dumps(fields)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    ids = done.stdout.split()
    assert len(ids) == 3
    expected = answer(shared_client, send_by_celery(shared_client, json.dumps({"task_id": "id"} | fields)))
    for entry_id in ids:
        found = answer(shared_client, entry_id)
        assert {key: found.get(key) for key in TOLD} == {key: expected.get(key) for key in TOLD}
        assert found["task_id"] == str(fields.get("task_id", entry_id))
        assert json.loads(found["metadata"]) == fields["metadata"]
