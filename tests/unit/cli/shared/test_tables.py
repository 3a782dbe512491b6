from __future__ import annotations

import io

import pytest
from rich.console import Console

from legit_embedding.cli.shared.tables import table

COLUMNS = ("Worker", "State", "Items", "Waiting", "Padding")
ROW = ("shopper-7@warehouse", "running well", "1,204.5/s", "12,345,678", "7%")


def printed(width: int, columns: tuple[str, ...] = COLUMNS, row: tuple[str, ...] = ROW, title: str = "A title") -> str:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=False, markup=False, emoji=False, highlight=False, width=width)
    console.print(table(title, columns, [row], right=columns[2:]))
    return screen.getvalue()


def test_a_cell_is_neither_markup_nor_a_terminal_command() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, markup=False, emoji=False, highlight=False, width=80)
    console.print(table("[bold]t[/bold]", ("A",), [("[red]x[/red] :smile: \x1b[2J\x9b2J",)]))
    assert "[bold]t[/bold]" in screen.getvalue()
    assert r"[red]x[/red] :smile: \x1b[2J\x9b2J" in screen.getvalue()


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(80, None), (68, None), (67, "No room for Padding"), (57, "No room for Waiting, Padding")],
)
def test_a_narrow_table_leaves_out_numbers_and_breaks_none(width: int, left_out: str | None) -> None:
    shown = printed(width)
    assert max(map(len, shown.splitlines())) <= width
    assert left_out is None or left_out in shown
    assert ("No room" in shown) == (left_out is not None)
    for name, cell in zip(COLUMNS[2:], ROW[2:], strict=True):
        assert (cell in shown) == (left_out is None or name not in shown.split("No room for")[1])


def test_words_stay_whole_while_there_is_room() -> None:
    shown = printed(45)
    assert ROW[0] in shown
    assert "running" in shown
    assert ROW[2] in shown


def test_a_long_word_is_broken_rather_than_the_numbers_left_out() -> None:
    shown = printed(60, ("File", "Kind", "Size"), ("/var/lib/handoff/" + "x" * 90, "tensor", "1.5 kB"))
    assert "1.5 kB" in shown
    assert "No room" not in shown


def test_a_column_without_any_number_gives_its_room_to_the_others() -> None:
    columns = ("Model", "Limited by", "Memory", "Start", "Seen")
    row = ("clip (image)", "speed", "-", "12.4 s", "3 s")
    assert "Memory" in printed(60, columns, row)
    shown = printed(52, columns, row)
    assert "No room for Memory\n" in shown
    assert all(each in shown for each in ("clip (image)", "Limited by", "12.4 s", "3 s"))


def test_a_table_without_a_title_begins_with_the_table() -> None:
    assert printed(80).startswith("A title\n")
    assert printed(80, title="").startswith("┏")
