"""Tables that fit the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from legit_embedding.cli.shared.terminal import UNKNOWN, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_WIDEST_WORD = 24
"""A longer word of text, such as a path, may be broken over lines; a number never is."""
_BORDERS = 3
"""Width of a column's border and padding; the table has one border more."""
_UNBOUNDED = 10_000


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]], *, right: Iterable[str] = ()) -> Group:
    """Create a titled table with escaped cells.

    Where the terminal is too narrow, columns of numbers are left out, those without any number and then the last ones
    first, and named below the table.

    Args:
        title: a line above the table; none if empty.
        columns: the names of the columns, the more important numbers before the less important ones.
        rows: the cells.
        right: the columns of numbers: right-aligned, and never broken over lines.
    """
    cells = [[each if isinstance(each, Text) else Text(printable(str(each))) for each in row] for row in rows]
    parts: list[RenderableType] = [Text(printable(title), style="bold")] if title else []
    return Group(*parts, *([_Fitted(tuple(columns), cells, set(right))] if cells else []))


class _Fitted:
    """Table that leaves out columns rather than break numbers and words."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[Text]], numbers: Collection[str]) -> None:
        self._columns = columns
        self._rows = rows
        self._numbers = numbers

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        sizes = [self._sizes(console, options, index) for index in range(len(self._columns))]
        shown = list(range(len(self._columns)))
        spare = [index for index in shown[1:] if self._columns[index] in self._numbers]
        empty = [index for index in spare if all(row[index].plain == UNKNOWN for row in self._rows)]
        while empty and _room(options, shown) < sum(sizes[index].maximum for index in shown):
            shown.remove(empty[-1])
            spare.remove(empty.pop())
        while spare and _room(options, shown) < sum(sizes[index].minimum for index in shown):
            shown.remove(spare.pop())
        yield self._made(shown, _widths([sizes[index] for index in shown], _room(options, shown)))
        left_out = [name for index, name in enumerate(self._columns) if index not in shown]
        if left_out:
            yield Text(f"No room for {', '.join(left_out)}", style="dim")

    def _sizes(self, console: Console, options: ConsoleOptions, index: int) -> Measurement:
        """Measure one column."""
        unbounded = options.update(max_width=_UNBOUNDED)
        heading, *cells = (Text(self._columns[index]), *(row[index] for row in self._rows))
        name, *measured = (Measurement.get(console, unbounded, cell) for cell in (heading, *cells))
        number = self._columns[index] in self._numbers
        least = (each.maximum if number else min(_WIDEST_WORD, each.minimum) for each in measured)
        return Measurement(
            max(min(_WIDEST_WORD, name.minimum), *least), max(name.maximum, *(each.maximum for each in measured))
        )

    def _made(self, shown: Sequence[int], widths: Sequence[int]) -> Table:
        made = Table()
        for index, width in zip(shown, widths, strict=True):
            number = self._columns[index] in self._numbers
            made.add_column(self._columns[index], justify="right" if number else "left", overflow="fold", width=width)
        for row in self._rows:
            made.add_row(*(row[index] for index in shown))
        return made


def _room(options: ConsoleOptions, shown: Sequence[int]) -> int:
    """Return the width that is left for the cells of these columns."""
    return options.max_width - _BORDERS * len(shown) - 1


def _widths(sizes: Sequence[Measurement], room: int) -> list[int]:
    """Divide the room among the columns; those that lack least get all that they lack."""
    widths = [each.minimum for each in sizes]
    left = room - sum(widths)
    for index in sorted(range(len(sizes)), key=lambda index: sizes[index].maximum - sizes[index].minimum):
        more = max(0, min(left, sizes[index].maximum - widths[index]))
        widths[index] += more
        left -= more
    return widths
