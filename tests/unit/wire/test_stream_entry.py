from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legit_embedding.errors import TaskError
from legit_embedding.wire import stream_entry as entries
from legit_embedding.wire.stream_entry import Entry
from legit_embedding.wire.task import Address, TaskObject

ID = "1700000000000-0"


def read(fields: dict[str, str | bytes], deliveries: int = 1) -> Entry:
    flat = [part for pair in fields.items() for part in pair]
    return Entry.read(ID, [part.encode() if isinstance(part, str) else part for part in flat], deliveries)


def test_flat_fields_become_a_task_object() -> None:
    entry = read(
        {
            "task_id": "42",
            "kind": "text",
            "text": "hello",
            "deadline": "1700000000123",
            "return_embedding": "true",
            "metadata": '{"sku": 1, "tags": ["a"]}',
            "unknown": "ignored",
        },
        deliveries=3,
    )
    task = TaskObject.parse(entry.raw)
    assert (task.task_id, task.text, task.deadline, task.return_embedding) == ("42", "hello", 1700000000123, True)
    assert task.metadata == {"sku": 1, "tags": ["a"]}
    assert (entry.origin.kind, entry.origin.id, entry.deliveries, entry.error) == ("stream", ID, 3, None)


def test_a_payload_is_the_task_object() -> None:
    entry = read({"payload": '{"task_id": "42", "text": "hello", "deadline": 5, "metadata": {"a": null}}'})
    assert entry.raw == {"task_id": "42", "text": "hello", "deadline": 5, "metadata": {"a": None}}


@pytest.mark.parametrize("fields", [{"text": "x"}, {"text": "x", "task_id": ""}, {"payload": '{"text": "x"}'}])
def test_the_entry_id_stands_in_for_a_missing_task_id(fields: dict[str, str | bytes]) -> None:
    assert TaskObject.parse(read(fields).raw).task_id == ID


class TestPhp:
    def test_every_value_may_be_serialized_as_json(self) -> None:
        task = {
            "task_id": "42",
            "text": 'say "hi"',
            "metadata": {"a": 1},
            "deadline": 5,
            "return_embedding": True,
            "app": None,
        }
        entry = read({name: json.dumps(value) for name, value in task.items()})
        assert entry.raw == {name: value for name, value in task.items() if value is not None}
        assert TaskObject.parse(entry.raw).text == 'say "hi"'

    def test_metadata_may_be_serialized_twice(self) -> None:
        entry = read({"text": '"hello"', "metadata": json.dumps(json.dumps({"a": 1}))})
        assert entry.raw == {"task_id": ID, "text": "hello", "metadata": {"a": 1}}

    def test_a_number_may_be_among_the_serialized_values(self) -> None:
        entry = read({"task_id": "42", "text": '"hello"', "app": '"shop"', "deadline": "5", "model": "null"})
        assert entry.raw == {"task_id": "42", "text": "hello", "app": "shop", "deadline": 5}

    def test_one_plain_value_says_that_all_are(self) -> None:
        entry = read({"task_id": '"42"', "reply_to": '"embedding_results:mine"', "text": "plain"})
        assert entry.raw == {"task_id": '"42"', "reply_to": '"embedding_results:mine"', "text": "plain"}

    @pytest.mark.parametrize(
        "others",
        [{"task_id": "t-1"}, {"task_id": "42"}, {"metadata": '{"a": 1}', "deadline": "5"}, {}],
        ids=str,
    )
    def test_a_quotation_is_no_sign_of_a_serializer(self, others: dict[str, str | bytes]) -> None:
        assert read({"text": '"To be or not to be"', **others}).raw["text"] == '"To be or not to be"'

    def test_a_payload_may_be_a_json_string(self) -> None:
        assert read({"payload": json.dumps(json.dumps({"text": "hello"}))}).raw["text"] == "hello"

    def test_empty_values_are_absent_ones(self) -> None:
        empty = dict.fromkeys(("model", "reply_to", "app", "deadline", "metadata", "kind", "text", "image_b64"), "")
        entry = read({**empty, "image_url": "http://host/a.png"})
        assert entry.raw == {"task_id": ID, "image_url": "http://host/a.png"}

    def test_a_blank_text_is_a_text(self) -> None:
        assert read({"text": "", "image_url": ""}).raw == {"task_id": ID, "text": ""}

    @pytest.mark.parametrize("fields", [{"text": "x", "metadata": "[]"}, {"payload": '{"text": "x", "metadata": []}'}])
    def test_an_empty_list_is_echoed(self, fields: dict[str, str | bytes]) -> None:
        assert Address.read(read(fields).raw, ID).metadata == "[]"
        TaskObject.parse(read(fields).raw)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"text": "x", "deadline": "soon"}, "deadline"),
        ({"text": "x", "deadline": "9" * 5000}, "deadline"),
        ({"text": "x", "return_embedding": "maybe"}, "return_embedding"),
        ({"text": "x", "deadline": "-1"}, "deadline"),
        ({"payload": '{"text": "x", "deadline": 1%s}' % ("0" * 5000)}, "deadline"),
        ({"payload": '{"text": "x", "task_id": false}'}, "task_id"),
        ({"payload": '{"text": NaN}'}, "text"),
        ({"text": "x", "metadata": "NaN"}, "metadata"),
        ({"text": "x", "metadata": "{bad"}, "metadata"),
        ({"text": "x", "metadata": "[1]"}, "metadata"),
        ({"text": "x", "metadata": "[" * 100_000}, "metadata"),
        ({"text": "x", "kind": "audio"}, "kind"),
        ({"text": "x", "reply_to": "r" * 600}, "reply_to"),
        ({}, "task"),
    ],
)
def test_what_does_not_fit_is_named(fields: dict[str, str | bytes], says: str) -> None:
    with pytest.raises(TaskError) as caught:
        TaskObject.parse(read(fields).raw)
    assert caught.value.code == "invalid_task"
    assert caught.value.detail.startswith(f"{says}:")


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ("{bad", "not JSON"),
        ("", "not JSON"),
        ("[1]", "expected a JSON object, got list"),
        ("null", "expected a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        (b'{"text": "\xff"', "not JSON"),
        ('"\\"{"', "not JSON"),
    ],
)
def test_a_payload_that_is_no_object_is_an_error_with_an_address(payload: str | bytes, says: str) -> None:
    entry = read({"payload": payload, "app": "shop"})
    assert entry.error is not None
    assert entry.error.code == "invalid_task"
    assert entry.error.detail.startswith("payload: ")
    assert says in entry.error.detail
    assert Address.read(entry.raw, ID) == Address(ID, app="shop")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"text": b"\xff\xfe"}, "text"),
        ({"text": "x", "app": b"\xff"}, "app"),
        ({"text": "x", "task_id": b"\xff"}, "task_id"),
        ({"payload": '{"text": "\\ud800"}'}, "text"),
    ],
)
def test_what_is_no_text_is_named(fields: dict[str, str | bytes], says: str) -> None:
    with pytest.raises(TaskError, match=f"invalid_task: {says}: .* unicode"):
        TaskObject.parse(read(fields).raw)
    TaskObject.parse(read({"unknown": b"\xff", "text": "é", "payload": '{"text": "\\ud83d\\ude00"}'}).raw)


def test_bytes_that_are_no_text_are_echoed_as_they_were() -> None:
    entry = read({"task_id": b"caf\xe9", "text": "x"})
    assert entry.raw["task_id"].encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_whatever_goes_wrong_in_reading_it_is_still_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(pairs: object) -> None:
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr(entries, "_flat", fail)
    entry = read({"text": "x"})
    assert (entry.raw, entry.origin.id) == ({"task_id": ID}, ID)
    assert entry.error is not None
    assert entry.error.code == "model_failed"


NAMES = st.sampled_from(["task_id", "kind", "text", "image_url", "metadata", "deadline", "payload", "reply_to", "app"])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(st.dictionaries(NAMES | st.text(), st.text() | st.binary() | JSON.map(json.dumps)))
def test_whatever_is_sent_is_a_task_or_an_error(fields: dict[str, str | bytes]) -> None:
    entry = read({name.encode("utf-8", "replace").decode(): value for name, value in fields.items()})
    with suppress(TaskError):
        assert TaskObject.parse(entry.raw).task_id
    assert Address.read(entry.raw, ID).task_id
