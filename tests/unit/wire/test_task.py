from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legit_embedding.errors import TaskError
from legit_embedding.wire.result import Embedded, Origin, Result, Timings, Written
from legit_embedding.wire.task import Address, HandOff, TaskObject

CELERY = Origin("celery", "c-1")
GOOD = Embedded("text", "minilm", 2, "base64_fp32", "AAAA")


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ({"text": "x"}, "task_id"),
        ({"task_id": "", "text": "x"}, "task_id"),
        ({"task_id": True, "text": "x"}, "task_id"),
        ({"task_id": 1.5, "text": "x"}, "task_id"),
        ({"task_id": ["a"], "text": "x"}, "task_id"),
        ({"task_id": 10**600, "text": "x"}, "task_id"),
        ({"task_id": {"__type__": "uuid", "__value__": {"hex": "00"}}, "text": "x"}, "task_id"),
        ({"task_id": "a"}, "text"),
        ({"task_id": "a", "text": "x", "image_b64": "x"}, "image_b64"),
        ({"task_id": "a", "text": 5}, "text"),
        ({"task_id": "a", "text": "x", "kind": "sound"}, "kind"),
        ({"task_id": "a", "text": "x", "kind": "image"}, "kind"),
        ({"task_id": "a", "text": "x", "metadata": "m"}, "metadata"),
        ({"task_id": "a", "text": "x", "metadata": [1]}, "metadata"),
        ({"task_id": "a", "text": "x", "deadline": 1.5}, "deadline"),
        ({"task_id": "a", "text": "x", "deadline": -1}, "deadline"),
        ({"task_id": "a", "text": "x", "deadline": True}, "deadline"),
        ({"task_id": "a", "text": "x", "deadline": 10**400}, "deadline"),
        ({"task_id": "a", "text": "x", "deadline": float("inf")}, "deadline"),
        ({"task_id": "a", "text": "x", "return_embedding": "yes"}, "return_embedding"),
        (None, "task"),
        ([], "task"),
    ],
)
def test_what_does_not_fit_is_invalid_and_names_the_field(raw, names):
    with pytest.raises(TaskError) as caught:
        TaskObject.parse(raw)
    assert caught.value.code == "invalid_task"
    assert names in caught.value.detail


def test_unknown_fields_are_ignored():
    assert TaskObject.parse({"task_id": "a", "text": "", "new_field": {"x": 1}}).text == ""


@pytest.mark.parametrize("name", ["image_url", "image_b64", "image_path"])
def test_the_kind_follows_from_the_content(name):
    assert TaskObject.parse({"task_id": "a", name: "x"}).content_kind == "image"
    assert TaskObject.parse({"task_id": "a", "text": "x"}).content_kind == "text"


def test_a_handoff_needs_a_path_and_a_model():
    assert HandOff.parse({"task_id": "a", "model": "m", "path": "/p"}).path == "/p"
    for missing in ("model", "path"):
        with pytest.raises(TaskError, match=missing):
            HandOff.parse({"task_id": "a", "model": "m", "path": "/p"} | {missing: None})


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_parsed_or_refused_and_can_be_answered(raw):
    address = Address.read(raw, fallback_id="c-1")
    assert address.task_id
    try:
        TaskObject.parse(raw)
    except TaskError as error:
        entry = Result(address, CELERY, error).fields("w")
        assert entry["status"] == "error"
        assert all(isinstance(value, str) for value in entry.values())


def test_an_address_keeps_what_is_legible():
    raw = {"task_id": [5], "reply_to": "s", "app": ["x"], "metadata": {"a": 1}}
    assert Address.read(raw, "c-1") == Address("c-1", "s", None, '{"a":1}')


def test_a_number_is_a_task_id_as_its_decimal_text():
    raw = {"task_id": 42, "text": "x"}
    assert TaskObject.parse(raw).task_id == Address.read(raw, "c-1").task_id == "42"
    assert TaskObject.parse({"task_id": 0, "text": "x"}).task_id == "0"


@pytest.mark.parametrize("metadata", [{}, [], {"a": [None, 1, 1.5, "é"]}, {"__type__": "Product", "__value__": 3}])
def test_metadata_are_echoed_as_they_were_sent(metadata):
    raw = {"task_id": "a", "text": "x", "metadata": metadata}
    TaskObject.parse(raw)
    assert json.loads(Address.read(raw, "c-1").metadata) == metadata


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_json_has_not_is_not_echoed(number):
    address = Address.read({"task_id": "a", "metadata": {"price": [number]}}, "c-1")
    assert address.metadata is None
    assert address.fault.code == "invalid_task"
    assert address.fault.detail.startswith("metadata: ")


def test_metadata_have_a_limit_in_bytes():
    metadata = {"a": "é" * 10}
    assert Address.read({"metadata": metadata}, "c-1", 28).fault is None
    address = Address.read({"metadata": metadata}, "c-1", 27)
    assert (address.metadata, address.fault.code) == (None, "too_large")
    assert "streams.max_metadata_bytes" in address.fault.detail


def test_a_good_entry():
    address = Address("t-1", "embedding_results:x", "shop", '{"name":"é","n":[1]}')
    entry = Result(address, CELERY, GOOD, Timings(1, 2, 3)).fields("worker@host")
    assert entry == {
        "task_id": "t-1", "status": "ok", "kind": "text", "model": "minilm", "dim": "2", "encoding": "base64_fp32",
        "embedding": "AAAA", "app": "shop", "metadata": address.metadata, "source": "c-1", "worker": "worker@host",
        "prep_ms": "1", "queue_ms": "2", "compute_ms": "3",
    }  # fmt: skip


def test_a_bad_entry_says_why():
    entry = Result(Address("t-1"), CELERY, TaskError("expired", "too late")).fields("w")
    assert (entry["status"], entry["error"], entry["detail"]) == ("error", "expired", "too late")
    assert "embedding" not in entry


def test_truncation_is_marked():
    cut = Embedded("text", "m", 2, "base64_fp32", "AAAA", truncated=True)
    assert Result(Address("t"), CELERY, cut).fields("w")["truncated"] == "1"
    assert "truncated" not in Result(Address("t"), CELERY, GOOD).fields("w")


def test_receipts():
    written = Written(Result(Address("t-1"), CELERY, GOOD), "embedding_results", "5-0")
    receipt = {
        "task_id": "t-1", "status": "ok", "model": "minilm", "dim": 2, "stream": "embedding_results", "entry_id": "5-0"
    }  # fmt: skip
    assert written.receipt() == receipt
    assert written.receipt(with_embedding=True) == receipt | {"encoding": "base64_fp32", "embedding": "AAAA"}


def test_a_task_error_survives_celerys_json():
    error = TaskError("expired", "too late")
    assert TaskError(*error.args).detail == "too late"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"task_id": 42, "reply_to": "r", "app": "shop"},
        {"metadata": {"ü": [1, None]}},
        {"metadata": []},
        {"metadata": {"price": float("nan")}},
        {"metadata": {"long": "x" * 100}},
    ],
)
def test_a_task_that_fits_gives_the_address_that_is_read_from_it(more):
    raw = {"task_id": "a", "text": "x"} | more
    given, read = TaskObject.parse(raw).address(80), Address.read(raw, "c-1", 80)
    assert given == read
    assert str(given.fault) == str(read.fault)
