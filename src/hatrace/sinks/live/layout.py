"""Columns and rows as lines: as wide as their cells, giving way where the screen is narrower.

rich.table does the same at 20 times the cost, up to four times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.segment import Segment

from hatrace.sinks.live.paint import DIM, Line, Lines, cut

Row = TypeVar("Row")
_LEAST = 8
"""Cells that a column keeps which gives way."""


class Cell(NamedTuple):
    """What stands in one place of a table."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column: its cell for a row, and from which screen width on it is shown."""

    title: str
    cell: Callable[[Row], str | Cell]
    """Text as it came: whoever draws it escapes it."""
    align: Literal["left", "right"] = "right"
    from_width: int = 0
    ratio: int | None = None
    """Takes a share of the width that is left."""
    least: int = 0
    """Cells it has in any case, lest the table shakes as times change."""


def laid_out(
    console: Console,
    columns: Sequence[Column[Row]],
    cells: list[list[Cell]],
    width: int,
    sorted_by: str,
) -> Lines:
    """Names and rows, as wide as their cells; where the screen is narrower, the columns with a
    ratio give way."""
    gap = 2 if width >= 100 else 1
    names = [
        Cell(column.title, "reverse" if column.title == sorted_by else f"{DIM} underline")
        for column in columns
    ]
    rows = [names, *cells]
    widths = [
        max(column.least, *(cell_len(row[at].text) for row in rows))
        for at, column in enumerate(columns)
    ]
    _give_way(columns, widths, sum(widths) + gap * (len(widths) - 1) - width)
    return [cut(_line(console, row, columns, widths, gap), width) for row in rows]


def _give_way(columns: Sequence[Column[Row]], widths: list[int], excess: int) -> None:
    """Shortens the widest column that may be, cell by cell, until it fits or nothing is left."""
    while excess > 0:
        flexible = [at for at, column in enumerate(columns) if column.ratio and widths[at] > _LEAST]
        if not flexible:
            return
        widest = max(flexible, key=lambda at: widths[at] / (columns[at].ratio or 1))
        widths[widest] -= 1
        excess -= 1


def _line(
    console: Console,
    row: Sequence[Cell],
    columns: Sequence[Column[Row]],
    widths: list[int],
    gap: int,
) -> Line:
    line: Line = []
    room = 0
    for cell, column, width in zip(row, columns, widths, strict=True):
        text = _shortened(cell.text, width)
        spare = width - cell_len(text)
        right = column.align == "right"
        if text:
            line.append(Segment(" " * (room + spare * right)))
            line.append(Segment(text, console.get_style(cell.style)))
            room = gap + spare * (not right)
        else:
            room += spare + gap
    return line


def _shortened(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
