"""Small things to draw with: every block becomes a list of lines, so heights are known.

Meaning is never in the colour alone: NO_COLOR and a monochrome terminal lose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.text import Text

from hatrace.model.finding import Severity
from hatrace.sinks.text import escape

Line = list[Segment]
Lines = list[Line]

BADGES = {
    Severity.CRITICAL: "bold white on red",
    Severity.WARNING: "bold black on yellow",
    Severity.NOTICE: "bold black on cyan",
}
ALARM, CARE, CALM, DIM, STRONG = "bold red", "yellow", "green", "dim", "bold"


def word(text: str, style: str = "") -> Text:
    """Text from outside: escaped, never read as markup."""
    return Text(escape(text), style=style)


def join(parts: list[Text], gap: str = "  ") -> Text:
    return Text(gap).join(part for part in parts if part)


def lines(console: Console, renderable: RenderableType, width: int) -> Lines:
    options = console.options.update(width=width, height=None)
    return console.render_lines(renderable, options, pad=False)


def one_line(console: Console, text: Text, width: int) -> Lines:
    """Cut with an ellipsis where it is too long."""
    short = text.copy()
    short.rstrip()
    short.truncate(width, overflow="ellipsis")
    return [list(short.render(console, end=""))]


def cut(line: Line, width: int) -> Line:
    """The same of what is drawn already."""
    if Segment.get_line_length(line) <= width:
        return line
    return [*Segment.adjust_line_length(line, width - 1), Segment("…")]


def wrapped(console: Console, text: Text, width: int, at_most: int) -> list[Text]:
    """Word-wrapped; what does not fit in ``at_most`` lines ends in an ellipsis."""
    parts = list(text.wrap(console, max(1, width)))
    if len(parts) > at_most:
        parts = parts[:at_most]
        parts[-1].rstrip()
        parts[-1].truncate(max(1, width - 1))
        parts[-1].append("…")
    return parts


def left_right(left: Text, right: Text, width: int) -> Text:
    """The right part always whole; the left one cut where they would meet."""
    room = max(0, width - right.cell_len - 2)
    shown = left.copy()
    shown.truncate(room, overflow="ellipsis", pad=True)
    return Text.assemble(shown, "  ", right)


def rule(console: Console, left: Text, right: Text, width: int) -> Lines:
    """A title line over a table."""
    dash = "-" if console.options.ascii_only else "─"
    room = width - left.cell_len - right.cell_len - 6
    filler = Text(f" {dash * max(1, room)} " if right else f" {dash * max(1, room + 3)}", DIM)
    line = Text.assemble((f"{dash} ", DIM), left, filler, right)
    return one_line(console, line, width)


@dataclass(frozen=True, slots=True)
class Screen:
    """A finished picture of ``height`` lines, and how far it can be scrolled."""

    picture: Lines
    scroll_limit: int = 0


def window(body: Lines, height: int, scroll: int) -> tuple[Lines, int]:
    """What shows of a body that may be longer than the window; and the scroll limit."""
    limit = max(0, len(body) - height)
    start = min(scroll, limit)
    return body[start : start + height], limit
