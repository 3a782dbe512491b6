from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legit_embedding.cli.submit.jsonl import BadLineError, tasks
from legit_embedding.wire.task import TaskObject


def payloads(*lines: bytes, skip: int = 0, **defaults: str) -> list[tuple[int, object]]:
    return [(item.position, json.loads(item.payload)) for item in tasks(lines, "t.jsonl", defaults, skip)]


def test_lines_become_payloads_with_their_numbers() -> None:
    found = payloads(b'{"task_id": "1", "text": "Z\xc3\xbcrich", "unknown": [1]}\n', b"\n", b'{"text": "no id"}')
    assert found == [(1, {"task_id": "1", "text": "Zürich", "unknown": [1]}), (3, {"text": "no id"})]


def test_defaults_fill_in_what_a_task_does_not_say() -> None:
    lines = (b'{"text": "a"}', b'{"text": "b", "model": "its own", "app": null}')
    found = [task for _, task in payloads(*lines, model="m", app="shop")]
    assert found == [
        {"text": "a", "model": "m", "app": "shop"},
        {"text": "b", "model": "its own", "app": "shop"},
    ]


def test_skipped_lines_are_not_even_checked() -> None:
    assert payloads(b"rubbish", b'{"text": "a"}', skip=1) == [(2, {"text": "a"})]


def test_a_byte_order_mark_is_passed_over() -> None:
    assert payloads(b'\xef\xbb\xbf{"text": "a"}') == [(1, {"text": "a"})]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"rubbish", "not JSON: Expecting value at column 1"),
        (b"[1]", "a task is a JSON object, not list"),
        (b'{"text": 4}', "text: Input should be a valid string"),
        (b"{}", "expected one of image_url"),
        (b'{"text": "a", "task_id": null}', "task_id: Input should be a valid string"),
        (b'{"text": "a", "image_url": "b"}', "got image_url and text"),
        (b'{"text": "a", "metadata": {"x": NaN}}', "not JSON: NaN is no number"),
        (b'{"text": "a", "metadata": {"x": "\\ud800"}}', "surrogates not allowed"),
        (b'{"text": "\xff"}', "invalid start byte"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_a_bad_line_is_named(line: bytes, why: str) -> None:
    with pytest.raises(BadLineError) as error:
        payloads(b'{"text": "good"}', line)
    assert error.value.format_message().startswith("t.jsonl, line 2: ")
    assert why in error.value.format_message()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["task_id", "kind", "text", "image_b64", "model", "metadata", "deadline", "x"])


@given(st.dictionaries(NAMES, JSON, max_size=4) | JSON)
def test_what_is_sent_is_what_a_worker_takes(task: object) -> None:
    try:
        ((_, sent),) = payloads(json.dumps(task).encode())
    except BadLineError:
        return
    assert sent == task
    TaskObject.parse({"task_id": "-"} | task)


@given(st.binary(max_size=60).filter(bytes.strip))
def test_any_bytes_are_a_task_or_a_bad_line(line: bytes) -> None:
    with suppress(BadLineError):
        assert len(payloads(line)) == 1
