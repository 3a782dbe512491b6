from __future__ import annotations

import click
import pytest

from legit_embedding.redis_io.entries import age, entry_id, order, texts


@pytest.mark.parametrize(
    ("given", "expected"), [("1700000000000-3", "1700000000000-3"), ("17", "17-0"), ("0-0", "0-0")]
)
def test_an_id_is_completed(given: str, expected: str) -> None:
    assert entry_id(given) == expected


@pytest.mark.parametrize(
    "given", ["", "-", "+", "$", "1-", "-1", "1-2-3", "1 ", "x", "1" * 21, "\N{FULLWIDTH DIGIT ONE}"]
)
def test_anything_else_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter, match="not an entry id"):
        entry_id(given)


def test_ids_are_ordered_as_numbers() -> None:
    assert sorted(["10-0", "9-10", "9-9"], key=order) == ["9-9", "9-10", "10-0"]


def test_age_is_never_negative() -> None:
    assert age("1000-0", 3.5) == 2.5
    assert age("9000-0", 3.5) == 0
    assert age(None, 3.5) is None


def test_bytes_that_are_no_text_are_spelt_out() -> None:
    assert texts({b"\xff": b"caf\xc3\xa9 \xfe"}) == {"\\xff": "café \\xfe"}
