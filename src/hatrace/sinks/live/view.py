"""Frame and choices of the user to a picture: header, findings first, then the tables.

Pure: the same frame, state and size give the same picture.
"""

from __future__ import annotations

from rich.console import Console

from hatrace.model.finding import Finding
from hatrace.sinks.live import evidence, tables
from hatrace.sinks.live.findings import findings, troubles
from hatrace.sinks.live.frame import Frame
from hatrace.sinks.live.header import footer, header
from hatrace.sinks.live.help import help_page
from hatrace.sinks.live.keys import Tab, ViewState
from hatrace.sinks.live.pace import Pace
from hatrace.sinks.live.paint import Lines, Screen, lines, window

_LEAST_TABLE = 5
"""Title, names, three rows: what the findings leave to the first table; or a third."""
_MOST_TROUBLES = 3
_AMPLE = 30
"""From so many lines on, there is room for an empty one."""


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
    space: Lines = [[]] if room >= _AMPLE else []
    for_table = max(_LEAST_TABLE, room // 3)
    for_findings = max(2, room - len(blind) - 2 * len(space) - for_table)
    body = space + findings(console, frame, state.selected, width, for_findings) + blind + space
    window = tables.Window(state.scroll, max(0, room - len(body) - tables.HEAD))
    first = tables.draw(console, frame, state, state.tab, width, window)
    body += first.lines
    for tab in Tab:
        if tab is not state.tab:
            body += _another_table(console, frame, state, tab, width, room - len(body))
    return body, first.scroll_limit


def _another_table(
    console: Console, frame: Frame, state: ViewState, tab: Tab, width: int, room: int
) -> Lines:
    """A table below, if at least two of its rows (or all) have room."""
    window = tables.Window(0, room - 1 - tables.HEAD)
    if window.rows < 1:
        return []
    drawn = tables.draw(console, frame, state, tab, width, window)
    enough = drawn.rows and window.rows >= min(3, drawn.rows)
    return [[], *drawn.lines] if enough else []
