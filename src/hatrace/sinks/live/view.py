"""Frame and choices of the user to a picture: header, findings first, then the tables.

Pure: the same frame, state and size give the same picture.
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from hatrace.model.finding import Finding
from hatrace.sinks.live import evidence, tables
from hatrace.sinks.live.findings import findings, troubles
from hatrace.sinks.live.frame import Frame
from hatrace.sinks.live.header import footer, header
from hatrace.sinks.live.help import help_page
from hatrace.sinks.live.keys import Tab, ViewState
from hatrace.sinks.live.pace import Pace
from hatrace.sinks.live.paint import DIM, Lines, Screen, lines, one_line, window
from hatrace.sinks.text import plural

_LEAST_TABLE = 5
"""Title, names, three rows: what the findings leave to the first table."""
_MOST_TROUBLES = 3


def draw(
    console: Console,
    frame: Frame,
    state: ViewState,
    width: int,
    height: int,
    pace: Pace | None = None,
    opened: Finding | None = None,
) -> Screen:
    """The picture of this moment; ``opened``: the finding whose evidence is shown."""
    top = header(console, frame, state, pace, width)
    bottom = footer(console, state, pace is not None, width)
    room = max(1, height - len(top) - len(bottom))
    if state.help:
        body, limit = window(lines(console, help_page(frame), width), room, state.scroll)
    elif state.evidence and opened is not None:
        page = evidence.page(console, opened, frame, width)
        body, limit = window(page, room, state.scroll)
    else:
        body, limit = _overview(console, frame, state, width, room)
    body += [[] for _ in range(room - len(body))]
    return Screen((top + body + bottom)[:height], limit)


def _overview(
    console: Console, frame: Frame, state: ViewState, width: int, room: int
) -> tuple[Lines, int]:
    blind = troubles(console, frame.troubles, width, _MOST_TROUBLES)
    for_findings = max(2, room - len(blind) - _LEAST_TABLE)
    body = findings(console, frame, state.selected, width, for_findings) + blind
    shown, limit = _first_table(console, frame, state, width, room - len(body))
    body += shown
    for tab in Tab:
        if tab is not state.tab:
            body += _another_table(console, frame, state, tab, width, room - len(body))
    return body, limit


def _first_table(
    console: Console, frame: Frame, state: ViewState, width: int, room: int
) -> tuple[Lines, int]:
    """The chosen table, scrolled; rows that have no room are counted in its last line."""
    drawn = tables.draw(console, frame, state, state.tab, width)
    space = max(0, room - len(drawn.title) - len(drawn.names))
    rows, limit = window(drawn.rows, space, state.scroll)
    if limit and rows:
        hidden = len(drawn.rows) - len(rows) + 1
        rows[-1] = one_line(console, _more(hidden), width)[0]
    return drawn.title + drawn.names + rows, limit


def _another_table(
    console: Console, frame: Frame, state: ViewState, tab: Tab, width: int, room: int
) -> Lines:
    """A table below, if at least two of its rows (or all) have room."""
    drawn = tables.draw(console, frame, state, tab, width)
    space = room - 1 - len(drawn.title) - len(drawn.names)
    if not drawn.rows or space < min(2, len(drawn.rows)):
        return []
    rows = drawn.rows[:space]
    if len(rows) < len(drawn.rows):
        rows[-1] = one_line(console, _more(len(drawn.rows) - space + 1), width)[0]
    return [[], *drawn.title, *drawn.names, *rows]


def _more(number: int) -> Text:
    return Text(f"… {plural(number, 'more row')}: PgUp/PgDn scroll, / filters, t next table", DIM)
