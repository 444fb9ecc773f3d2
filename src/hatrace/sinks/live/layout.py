"""Columns and rows as lines: as wide as their cells, giving way where the screen is narrower.

rich.table does the same at five times the cost, up to four times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from rich.text import Text

from hatrace.sinks.live.paint import DIM

Row = TypeVar("Row")
_LEAST = 8
"""Cells that a column keeps which gives way."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column: its cell for a row, and from which screen width on it is shown."""

    title: str
    cell: Callable[[Row], str | Text]
    align: Literal["left", "right"] = "right"
    from_width: int = 0
    ratio: int | None = None
    """Takes a share of the width that is left."""
    least: int = 0
    """Cells it has in any case, lest the table shakes as times change."""


def laid_out(
    columns: Sequence[Column[Row]], cells: list[list[Text]], width: int, sorted_by: str
) -> list[Text]:
    """Names and rows, as wide as their cells; where the screen is narrower, the columns with a
    ratio give way."""
    gap = 2 if width >= 100 else 1
    names = [
        Text(column.title, "reverse" if column.title == sorted_by else f"{DIM} underline")
        for column in columns
    ]
    rows = [names, *cells]
    widths = [
        max(column.least, *(row[at].cell_len for row in rows)) for at, column in enumerate(columns)
    ]
    _give_way(columns, widths, sum(widths) + gap * (len(widths) - 1) - width)
    return [_line(row, columns, widths, gap) for row in rows]


def _give_way(columns: Sequence[Column[Row]], widths: list[int], excess: int) -> None:
    """Shortens the widest column that may be, cell by cell, until it fits or nothing is left."""
    while excess > 0:
        flexible = [at for at, column in enumerate(columns) if column.ratio and widths[at] > _LEAST]
        if not flexible:
            return
        widest = max(flexible, key=lambda at: widths[at] / (columns[at].ratio or 1))
        widths[widest] -= 1
        excess -= 1


def _line(row: Sequence[Text], columns: Sequence[Column[Row]], widths: list[int], gap: int) -> Text:
    line = Text()
    for cell, column, width in zip(row, columns, widths, strict=True):
        shown = cell.copy()
        shown.truncate(width, overflow="ellipsis")
        room = " " * (width - shown.cell_len)
        line.append(room if column.align == "right" else "").append_text(shown)
        line.append(" " * gap if column.align == "right" else room + " " * gap)
    return line
