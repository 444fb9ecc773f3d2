"""The three tables: targets by role, health checks, command-line sockets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from hatrace.model.attribution import Role
from hatrace.sinks.live.columns import CHECKS, SOCKETS, TARGETS
from hatrace.sinks.live.frame import CheckRow, Frame, SocketRow, TargetRow
from hatrace.sinks.live.keys import Sort, Tab, ViewState
from hatrace.sinks.live.layout import Cell, Column, Row, laid_out
from hatrace.sinks.live.paint import DIM, STRONG, Lines, one_line, rule, word
from hatrace.sinks.text import count, escape, plural

_ROLES = (
    Role.SERVER,
    Role.CHECK,
    Role.AGENT,
    Role.CLIENT,
    Role.APPLICATION,
    Role.PEERS,
    Role.RESOLVER,
    Role.LOG,
    Role.CLI,
    Role.MASTER_CLI,
    Role.WORKER_LINK,
    Role.LISTENER,
    Role.UNKNOWN,
)
_SORTS: dict[Sort, Callable[[TargetRow], tuple[float | str, ...]]] = {
    Sort.HELD: lambda row: (-row.held, -row.open, row.name),
    Sort.OPEN: lambda row: (-row.open, row.name),
    Sort.NEW: lambda row: (-(row.born_per_s or 0), row.name),
    Sort.ENDED: lambda row: (-(row.gone_per_s or 0), row.name),
    Sort.FAILED: lambda row: (-row.failed, row.name),
    Sort.OLDEST: lambda row: (-(row.oldest_s or 0), row.name),
    Sort.NAME: lambda row: (row.name,),
}


def target_rows(frame: Frame, state: ViewState) -> list[TargetRow]:
    """Those which the filter lets through, as sorted."""
    wanted = state.filter.casefold()
    rows = [row for row in frame.targets if wanted in _searched(row)]
    return sorted(rows, key=_SORTS[state.sort]) if state.sort in _SORTS else _by_role(rows)


def _by_role(rows: list[TargetRow]) -> list[TargetRow]:
    """Grouped, the roles in which something is held first: there is little room on top."""
    held = Counter[Role]()
    for row in rows:
        held[row.role] += row.held
    return sorted(
        rows,
        key=lambda row: (-held[row.role], _ROLES.index(row.role), -row.held, -row.open, row.name),
    )


def _searched(row: TargetRow) -> str:
    return f"{row.role} {row.name} {row.address} {row.pid}".casefold()


def check_rows(frame: Frame, state: ViewState) -> list[CheckRow]:
    wanted = state.filter.casefold()
    return [row for row in frame.checks if wanted in f"{row.server} {row.status}".casefold()]


def socket_rows(frame: Frame, state: ViewState) -> list[SocketRow]:
    wanted = state.filter.casefold()
    return [
        row for row in frame.sockets if wanted in f"{row.path} {' '.join(row.holders)}".casefold()
    ]


@dataclass(frozen=True, slots=True)
class Window:
    """From which row on, and how many rows, title and names not counted."""

    first: int
    rows: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """A table: its title, its columns' names and the rows in the window."""

    lines: Lines
    rows: int
    """All that the filter lets through."""
    scroll_limit: int


HEAD = 2
"""Lines above the rows: title and names."""


def draw(
    console: Console, frame: Frame, state: ViewState, tab: Tab, width: int, window: Window
) -> Drawn:
    """One of the tables, so many of its rows as the window has."""
    if tab is Tab.TARGETS:
        title = _title("target", frame.targets, _sum(frame.targets), state)
        right = Text(f"sorted by {state.sort}", DIM)
        top = rule(console, title, right, width)
        shown = target_rows(frame, state)
        return _drawn(console, top, TARGETS, shown, width, window, state.sort.value)
    if tab is Tab.CHECKS:
        held = f"{count(sum(row.held for row in frame.checks))} held"
        top = rule(console, _title("health check", frame.checks, held, state), Text(), width)
        return _drawn(console, top, CHECKS, check_rows(frame, state), width, window)
    top = rule(console, _title("command socket", frame.sockets, "", state), Text(), width)
    return _drawn(console, top, SOCKETS, socket_rows(frame, state), width, window)


def _sum(rows: Sequence[TargetRow]) -> str:
    held = sum(row.held for row in rows)
    return f"{count(sum(row.open for row in rows))} open, {count(held)} held"


def _title(noun: str, rows: Sequence[object], sums: str, state: ViewState) -> Text:
    title = Text(plural(len(rows), noun), STRONG)
    if sums:
        title.append(f": {sums}")
    if state.filter:
        title.append_text(word(f'  filter "{state.filter}"', STRONG))
    return title


def _drawn(
    console: Console,
    top: Lines,
    columns: Sequence[Column[Row]],
    rows: Sequence[Row],
    width: int,
    window: Window,
    sorted_by: str = "",
) -> Drawn:
    all_fit = len(rows) <= window.rows
    fit = window.rows if all_fit else max(0, window.rows - 1)
    limit = max(0, len(rows) - fit)
    first = min(window.first, limit)
    chosen = [column for column in columns if width >= column.from_width]
    cells = [[_safe(column.cell(row)) for column in chosen] for row in rows[first : first + fit]]
    drawn = laid_out(console, chosen, cells, width, sorted_by)
    if not all_fit and window.rows > 0:
        drawn += one_line(console, _more(first, len(rows) - first - fit), width)
    return Drawn(top + drawn, len(rows), limit)


def _more(above: int, below: int) -> Text:
    places = ((above, "above"), (below, "below"))
    hidden = " and ".join(f"{count(number)} {where}" for number, where in places if number)
    return Text(f"… rows hidden: {hidden}; PgUp/PgDn scroll, / filters, t next table", DIM)


def _safe(cell: str | Cell) -> Cell:
    """With nothing in it that a terminal would obey."""
    text, style = (cell, "") if isinstance(cell, str) else cell
    return Cell(escape(text), style)
