"""The three tables: targets by role, health checks, command-line sockets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hatrace.model.attribution import Role
from hatrace.sinks.live.frame import CheckRow, Frame, SocketRow, TargetRow
from hatrace.sinks.live.keys import Sort, Tab, ViewState
from hatrace.sinks.live.paint import ALARM, CARE, DIM, STRONG, Lines, lines, one_line, rule, word
from hatrace.sinks.text import count, duration, plural, rate, size

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column: its cell for a row, and from which screen width on it is shown."""

    title: str
    cell: Callable[[Row], str | Text]
    align: Literal["left", "right"] = "right"
    from_width: int = 0
    ratio: int | None = None
    """Takes a share of the width that is left."""


def _held(row: TargetRow) -> Text:
    return Text(count(row.held), STRONG if row.held else DIM)


def _zero_dim(number: int) -> Text:
    return Text(count(number), "" if number else DIM)


def _median(row: TargetRow) -> str:
    if row.median_s is None:
        return ""
    return f">{duration(4**14 / 1e6)}" if math.isinf(row.median_s) else f"<{duration(row.median_s)}"


TARGETS: tuple[Column[TargetRow], ...] = (
    Column("role", lambda row: Text(row.role, DIM), "left"),
    Column("target", lambda row: word(row.name), "left", ratio=2),
    Column("address", lambda row: word(row.address), "left", 120, ratio=2),
    Column("pid", lambda row: str(row.pid or ""), from_width=100),
    Column("open", lambda row: count(row.open)),
    Column("held", _held),
    Column("new/s", lambda row: rate(row.born_per_s)),
    Column("ended/s", lambda row: rate(row.gone_per_s)),
    Column("failed", lambda row: _zero_dim(row.failed)),
    Column("reset", lambda row: _zero_dim(row.reset), from_width=150),
    Column("oldest", lambda row: duration(row.oldest_s) if row.held else ""),
    Column("p50", _median),
    Column("sent", lambda row: size(row.sent_bytes), from_width=150),
    Column("received", lambda row: size(row.received_bytes), from_width=150),
)


def _observed(row: CheckRow) -> Text:
    """The rhythm seen, and in a word how it compares with the configured one."""
    if row.observed_s is None:
        return Text("?", DIM)
    text = duration(row.observed_s)
    if row.expected_s and row.observed_s > 1.25 * row.expected_s + 0.1:
        return Text(f"{text} LATE", CARE)
    if row.expected_s and row.observed_s < 0.75 * row.expected_s - 0.1:
        return Text(f"{text} EARLY", CARE)
    return Text(text)


_HARMLESS = ("", "connecting", "running", "connected", "answered", "INI", "UNK")
"""Results (`Check.result`) which say nothing against the server, beside ``L4OK``, ``L7OK`` ..."""


def _check_held(row: CheckRow) -> Text:
    if row.held > row.healthy_held:
        return Text(f"{count(row.held)} !", ALARM)
    return Text(count(row.held), "" if row.held else DIM)


def _result(row: CheckRow) -> Text:
    good = row.last_result.endswith("OK") or row.last_result in _HARMLESS
    return word(row.last_result or "?", "" if good else CARE)


CHECKS: tuple[Column[CheckRow], ...] = (
    Column("server", lambda row: word(row.server), "left", ratio=2),
    Column("kind", lambda row: "agent" if row.agent else "health", "left", 100),
    Column("pid", lambda row: str(row.pid), from_width=100),
    Column("status", lambda row: word(row.status), "left"),
    Column("every", lambda row: duration(row.expected_s)),
    Column("by", lambda row: Text(row.expected_name, DIM), "left", 100),
    Column("seen every", _observed, "left"),
    Column("last", _result, "left"),
    Column("took", lambda row: "" if row.last_took_s is None else duration(row.last_took_s)),
    Column("ago", lambda row: "" if row.last_ago_s is None else duration(row.last_ago_s)),
    Column("begun", lambda row: count(row.started), from_width=100),
    Column("ended", lambda row: count(row.ended), from_width=100),
    Column("held", _check_held),
)


def _slots(row: SocketRow) -> Text:
    """``3/10``, ``10/10 FULL``."""
    text = f"{row.used}/{row.limit if row.limit is not None else '?'}"
    full = row.limit is not None and row.used >= row.limit
    return Text(f"{text} FULL", ALARM) if full else Text(text)


def _waiting(row: SocketRow) -> Text:
    return Text(count(row.waiting), ALARM if row.waiting else DIM)


SOCKETS: tuple[Column[SocketRow], ...] = (
    Column("command socket", lambda row: word(row.path), "left", ratio=2),
    Column("of", lambda row: Text("master" if row.master else "worker", DIM), "left"),
    Column("pid", lambda row: str(row.pid)),
    Column("slots", _slots, "left"),
    Column("waiting", _waiting),
    Column("level", lambda row: row.level, "left", 120),
    Column("held by", lambda row: word(", ".join(row.holders)), "left", ratio=3),
)

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
    cells = [[_text(column.cell(row)) for column in chosen] for row in rows[first : first + fit]]
    drawn = lines(console, _table(chosen, cells, width, sorted_by), width)
    if not all_fit and window.rows > 0:
        drawn += one_line(console, _more(first, len(rows) - first - fit), width)
    return Drawn(top + drawn, len(rows), limit)


def _more(above: int, below: int) -> Text:
    places = ((above, "above"), (below, "below"))
    hidden = " and ".join(f"{count(number)} {where}" for number, where in places if number)
    return Text(f"… rows hidden: {hidden}; PgUp/PgDn scroll, / filters, t next table", DIM)


def _text(cell: str | Text) -> Text:
    return Text(cell) if isinstance(cell, str) else cell


def _table(
    columns: Sequence[Column[Row]], cells: list[list[Text]], width: int, sorted_by: str
) -> Table:
    """As wide as its cells; where the screen is narrower, the columns with a ratio give way."""
    gap = 2 if width >= 100 else 1
    natural = sum(
        max([len(column.title), *(row[at].cell_len for row in cells)]) + gap
        for at, column in enumerate(columns)
    )
    table = Table(box=None, expand=natural > width, padding=(0, gap, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(
            Text(column.title, "reverse" if column.title == sorted_by else f"{DIM} underline"),
            justify=column.align,
            no_wrap=True,
            overflow="ellipsis",
            ratio=column.ratio,
            min_width=8 if column.ratio else len(column.title),
        )
    for row in cells:
        table.add_row(*row)
    return table
