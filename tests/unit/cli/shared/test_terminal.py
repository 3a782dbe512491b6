from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from legit_embedding.cli.shared.terminal import duration, printable, size, table, value


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "-"), (0, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (90, "1 min 30 s"), (3600, "1 h"), (90061, "1 d 1 h")],
)
def test_duration(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_500_000_000, "2.5 GB")]
)
def test_size(number: int, expected: str) -> None:
    assert size(number) == expected


def test_control_characters_are_spelt_out() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed") == r"a\x1b[2Jb\nc\u202ed"
    assert printable("Zürich 東京") == "Zürich 東京"


def test_a_cell_is_neither_markup_nor_a_terminal_command() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, markup=False, emoji=False, highlight=False, width=80)
    console.print(table("[bold]t[/bold]", ("A",), [("[red]x[/red] :smile: \x1b[2J\x9b2J",)]))
    assert "[bold]t[/bold]" in screen.getvalue()
    assert r"[red]x[/red] :smile: \x1b[2J\x9b2J" in screen.getvalue()


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
