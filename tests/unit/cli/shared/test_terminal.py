from __future__ import annotations

import json

import pytest

from legit_embedding.cli.shared.terminal import duration, printable, value


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "-"), (0, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (90, "1 min 30 s"), (3600, "1 h"), (90061, "1 d 1 h")],
)
def test_duration(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


def test_control_characters_are_spelt_out() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed") == r"a\x1b[2Jb\nc\u202ed"
    assert printable("Zürich 東京") == "Zürich 東京"


def test_a_value_is_laid_out_and_shortened() -> None:
    content = json.dumps({"image_b64": "A" * 5000, "text": "a\x1bb"})
    shown = value(content, full=False).plain.splitlines()
    assert shown[0] == "{"
    assert shown[1].endswith("more characters)")
    assert "\x1b" not in "".join(shown)
    assert "A" * 5000 in value(content, full=True).plain


def test_a_value_of_many_lines_is_cut() -> None:
    shown = value(json.dumps(list(range(1000))), full=False).plain.splitlines()
    assert len(shown) == 61
    assert shown[-1] == "… (942 more lines)"


def test_a_value_that_is_nested_too_deep_is_shown_as_it_is() -> None:
    assert value("[" * 100_000, full=True).plain == "[" * 100_000
