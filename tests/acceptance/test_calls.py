"""However a producer calls an entrypoint, the tasks it names are answered, and its message is acknowledged."""

from __future__ import annotations

import base64
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients import EMBED_TEXT, PREPARE_BATCH, PREPARE_IMAGE, PREPARE_TEXT, Client
from tests.workers import Worker, wait_for

if TYPE_CHECKING:
    from celery.result import AsyncResult

TEXT = {"task_id": "a", "text": "x"}
OTHER = {"task_id": "b", "text": "y"}
STREAM = "embedding_results:calls"


@pytest.fixture
def client(shared_client: Client) -> Client:
    shared_client.redis.delete(STREAM)
    return shared_client


def all_acknowledged(client: Client) -> None:
    wait_for(lambda: client.redis.hlen("unacked") == 0, 20, "everything to be acknowledged")
    assert client.redis.llen("embedding") == 0


def call(client: Client, name: str, args: Any, kwargs: Any) -> AsyncResult:
    """As a producer in another language: nothing looks at the arguments before they are sent."""
    return client.app.send_task(name, args=args, kwargs=kwargs)


# entrypoint, args, kwargs
GOOD = {
    "the one argument": (PREPARE_TEXT, [TEXT], {}),
    "task=": (PREPARE_TEXT, [], {"task": TEXT}),
    "keywords": (PREPARE_TEXT, [], TEXT),
    "unknown keywords are ignored": (PREPARE_TEXT, [], TEXT | {"colour": "red"}),
    "unknown keywords beside the object": (PREPARE_TEXT, [TEXT], {"colour": "red"}),
    "a keyword named self": (PREPARE_TEXT, [], TEXT | {"self": 1}),
    "a batch": (PREPARE_BATCH, [[TEXT]], {}),
    "tasks=": (PREPARE_BATCH, [], {"tasks": [TEXT]}),
}


@pytest.mark.parametrize("case", GOOD)
def test_every_way_to_pass_the_object_is_taken(client, case):
    receipt = call(client, *GOOD[case]).get(timeout=20)
    receipt = receipt[0] if isinstance(receipt, list) else receipt
    assert (receipt["task_id"], receipt["status"]) == ("a", "ok")
    all_acknowledged(client)


# entrypoint, args, kwargs, the id it is answered under (None: Celery's), what the sentence names
REFUSED = {
    "two arguments": (PREPARE_TEXT, [TEXT, OTHER], {}, "a", "2 arguments"),
    "two, one of them named": (PREPARE_TEXT, [TEXT], {"task": OTHER}, "a", "2 arguments"),
    "an object and fields": (PREPARE_TEXT, [TEXT], {"model": "m"}, "a", "model"),
    "no arguments": (PREPARE_TEXT, [], {}, None, "carries none"),
    "only an unknown keyword": (PREPARE_TEXT, [], {"txet": "x"}, None, "task_id"),
    "a misspelt keyword": (PREPARE_TEXT, [], {"task_id": "a", "txet": "x"}, "a", "text"),
    "task= of the wrong type": (PREPARE_TEXT, [], {"task": "x"}, None, "task"),
    "a hand-off without a path": (EMBED_TEXT, [], {"task_id": "a", "model": "null-text"}, "a", "path"),
    "an image task's fields": (PREPARE_IMAGE, [], TEXT, "a", "kind"),
    "no list": (PREPARE_BATCH, [TEXT], {}, "a", "expected a list"),
    "two lists": (PREPARE_BATCH, [[TEXT], [OTHER]], {}, "a", "2 arguments"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_call_that_does_not_fit_is_answered_once(client, case):
    name, args, kwargs, answered_as, names = REFUSED[case]
    sent = call(client, name, args, kwargs)
    task_id = answered_as or sent.id
    answer = client.answers([task_id])[task_id]
    assert (answer["status"], answer["error"]) == ("error", "invalid_task")
    assert names in answer["detail"]
    with pytest.raises(Exception, match="invalid_task"):
        sent.get(timeout=20)
    all_acknowledged(client)
    assert [entry["task_id"] for entry in client.entries()].count(task_id) == 1


def test_each_task_of_a_batch_that_does_not_fit_is_answered(client):
    call(client, PREPARE_BATCH, [[TEXT], [OTHER]], {})
    answers = client.answers(["a", "b"])
    assert {answers[each]["error"] for each in "ab"} == {"invalid_task"}


def test_a_refused_call_is_answered_on_the_stream_it_names(client):
    call(client, PREPARE_TEXT, [TEXT | {"reply_to": STREAM}, 5], {})
    assert client.answers(["a"], STREAM)["a"]["error"] == "invalid_task"


def push(client: Client, body: bytes, *, content_type: str = "application/json", **headers: Any) -> str:
    """Put a message into the queue as kombu writes them; returns its Celery id."""
    celery_id = str(uuid.uuid4())
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": content_type,
        "headers": {"task": PREPARE_TEXT, "id": celery_id, "root_id": celery_id, "lang": "php"} | headers,
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "embedding"},
            "delivery_mode": 2,
            "priority": 0,
        },
    }
    client.redis.lpush("embedding", json.dumps(message))
    return celery_id


def body(args: Any, kwargs: Any) -> bytes:
    return json.dumps([args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()


def test_phps_empty_map_is_none_and_a_charset_is_read(client):
    for number, content_type in enumerate(
        ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
    ):
        push(client, body([TEXT | {"task_id": f"p{number}"}], []), content_type=content_type)
    answers = client.answers(["p0", "p1", "p2"])
    assert {answers[each]["status"] for each in ("p0", "p1", "p2")} == {"ok"}
    all_acknowledged(client)


def test_protocol_1_with_phps_empty_map(client):
    celery_id = str(uuid.uuid4())
    message = {"id": celery_id, "task": PREPARE_TEXT, "args": [TEXT], "kwargs": []}
    raw = {
        "body": base64.b64encode(json.dumps(message).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "embedding"},
            "priority": 0,
        },
    }
    client.redis.lpush("embedding", json.dumps(raw))
    assert client.answers(["a"])["a"]["status"] == "ok"


# body, content type, more headers, the id it is answered under (None: Celery's), what the sentence names
UNREADABLE = {
    "pickle": (b"\x80\x04N.", "application/x-python-serialize", {}, None, "application/x-python-serialize"),
    "yaml": (b"[]", "application/x-yaml", {}, None, "application/x-yaml"),
    "no JSON": (b"{", "application/json", {}, None, "body"),
    "no UTF-8": (b"\xff\xfe", "application/json", {}, None, "body"),
    "arguments that are text": (body("x", {}), "application/json", {}, None, "args"),
    "keywords that are a list": (body([TEXT], [1]), "application/json", {}, "a", "kwargs"),
    "an expiry that is no date": (body([TEXT], {}), "application/json", {"expires": "soon"}, "a", "expires"),
    "an ETA of the wrong type": (body([TEXT], {}), "application/json", {"eta": {"at": 1}}, "a", "eta"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_message_that_celery_refuses_is_answered_once(client, case):
    content, content_type, headers, answered_as, names = UNREADABLE[case]
    celery_id = push(client, content, content_type=content_type, **headers)
    good = client.text("x", task_id="good")
    task_id = answered_as or celery_id
    answer = client.answers([task_id])[task_id]
    assert (answer["error"], answer["source"]) == ("invalid_task", celery_id)
    assert names in answer["detail"]
    assert good.get(timeout=20)["status"] == "ok"
    with pytest.raises(Exception, match="invalid_task"):
        client.app.AsyncResult(celery_id).get(timeout=20)
    all_acknowledged(client)
    assert [entry["task_id"] for entry in client.entries()].count(task_id) == 1


def test_an_ordinary_task_that_celery_refuses_is_left_to_celery(client, shared_worker: Worker):
    push(client, b"{", task="tests.tasks.add")
    shared_worker.wait_for_log("Can't decode message body")
    all_acknowledged(client)
    assert client.entries() == []


EXPIRED = {
    "the one argument": (PREPARE_TEXT, [TEXT | {"reply_to": STREAM}], {}, ["a"]),
    "task=": (PREPARE_TEXT, [], {"task": TEXT | {"reply_to": STREAM}}, ["a"]),
    "keywords": (PREPARE_TEXT, [], TEXT | {"reply_to": STREAM}, ["a"]),
    "tasks=": (PREPARE_BATCH, [], {"tasks": [each | {"reply_to": STREAM} for each in (TEXT, OTHER)]}, ["a", "b"]),
}


@pytest.mark.parametrize("case", EXPIRED)
@pytest.mark.parametrize("code", ["expired", "revoked"])
def test_what_is_not_started_any_more_is_answered_where_it_says(client, case, code):
    name, args, kwargs, task_ids = EXPIRED[case]
    celery_id = str(uuid.uuid4())
    if code == "revoked":
        client.app.control.revoke(celery_id, reply=True, timeout=10, limit=1)
    client.app.send_task(name, args=args, kwargs=kwargs, task_id=celery_id, expires=-1 if code == "expired" else None)
    answers = client.answers(task_ids, STREAM)
    assert {answers[each]["error"] for each in task_ids} == {code}
    all_acknowledged(client)
    assert len(client.entries(STREAM)) == len(task_ids)


@pytest.mark.parametrize("expires", [None, -1])
def test_an_empty_batch_is_acknowledged_at_once(client, expires):
    sent = client.app.send_task(PREPARE_BATCH, args=[[]], expires=expires)
    if expires is None:
        assert sent.get(timeout=20) == []
    else:
        wait_for(lambda: sent.state == "REVOKED", 20, "the batch to be revoked")
    all_acknowledged(client)
    assert client.entries() == []
