from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legit_embedding.errors import TaskError
from legit_embedding.messages import Address, Embedded, HandOff, Origin, Result, TaskObject, Timings, Written

CELERY = Origin("celery", "c-1")
GOOD = Embedded("text", "minilm", 2, "base64_fp32", "AAAA")


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ({"text": "x"}, "task_id"),
        ({"task_id": "", "text": "x"}, "task_id"),
        ({"task_id": 7, "text": "x"}, "task_id"),
        ({"task_id": "a"}, "text"),
        ({"task_id": "a", "text": "x", "image_b64": "x"}, "image_b64"),
        ({"task_id": "a", "text": 5}, "text"),
        ({"task_id": "a", "text": "x", "kind": "sound"}, "kind"),
        ({"task_id": "a", "text": "x", "kind": "image"}, "kind"),
        ({"task_id": "a", "text": "x", "metadata": "m"}, "metadata"),
        ({"task_id": "a", "text": "x", "deadline": 1.5}, "deadline"),
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
    raw = {"task_id": 5, "reply_to": "s", "app": ["x"], "metadata": {"a": 1}}
    assert Address.read(raw, "c-1") == Address("c-1", "s", None, {"a": 1})


def test_a_good_entry():
    address = Address("t-1", "embedding_results:x", "shop", {"name": "é", "n": [1]})
    entry = Result(address, CELERY, GOOD, Timings(1, 2, 3)).fields("worker@host")
    assert entry == {
        "task_id": "t-1", "status": "ok", "kind": "text", "model": "minilm", "dim": "2", "encoding": "base64_fp32",
        "embedding": "AAAA", "app": "shop", "metadata": entry["metadata"], "source": "c-1", "worker": "worker@host",
        "prep_ms": "1", "queue_ms": "2", "compute_ms": "3",
    }  # fmt: skip
    assert json.loads(entry["metadata"]) == address.metadata


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
