from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legit_embedding.wire import json_text

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@given(JSON)
def test_what_was_read_is_written_as_the_same_value(value: Any) -> None:
    text = json_text.dumps(json_text.loads(json.dumps(value)))
    assert json.loads(text) == value


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "1" + "0" * 5000])
def test_what_is_no_number_of_json_is_read_and_not_written(text: str) -> None:
    value = json_text.loads(f'{{"a": [{text}]}}')
    assert not math.isfinite(value["a"][0])
    with pytest.raises(ValueError, match="JSON"):
        json_text.dumps(value)


def test_nesting_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(ValueError, match="nested"):
        json_text.loads("[" * 100_000)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match=r"recursion|nested"):
        json_text.dumps(deep)


@pytest.mark.parametrize("value", [{1, 2}, object(), {"a": b"x"}])
def test_what_is_no_json_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON serializable"):
        json_text.dumps(value)
