"""The three tables: targets by role, health checks, command-line sockets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hatrace.model.attribution import Role
from hatrace.sinks.live.frame import CheckRow, Frame, SocketRow, TargetRow
from hatrace.sinks.live.keys import Sort, Tab, ViewState
from hatrace.sinks.live.paint import ALARM, CARE, DIM, STRONG, Lines, lines, rule, word
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


def _check_held(row: CheckRow) -> Text:
    if row.held > row.healthy_held:
        return Text(f"{count(row.held)} !", ALARM)
    return Text(count(row.held), "" if row.held else DIM)


def _result(row: CheckRow) -> Text:
    return word(row.last_result or "?", "" if "OK" in row.last_result else CARE)


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
    Sort.ROLE: lambda row: (_ROLES.index(row.role), -row.held, -row.open, row.name),
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
    rows = (row for row in frame.targets if wanted in _searched(row))
    return sorted(rows, key=_SORTS[state.sort])


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
class Drawn:
    """A table: all its rows as lines, under a title and the columns' names."""

    title: Lines
    names: Lines
    rows: Lines


def draw(console: Console, frame: Frame, state: ViewState, tab: Tab, width: int) -> Drawn:
    """One of the tables, with all rows that the filter lets through."""
    if tab is Tab.TARGETS:
        shown = target_rows(frame, state)
        table = _table(TARGETS, shown, width, state.sort.value)
        right = Text(f"sorted by {state.sort}", DIM)
        return _drawn(console, table, _title(tab, shown, frame.targets, state), right, width)
    if tab is Tab.CHECKS:
        checks = check_rows(frame, state)
        table = _table(CHECKS, checks, width)
        return _drawn(console, table, _title(tab, checks, frame.checks, state), Text(), width)
    sockets = socket_rows(frame, state)
    table = _table(SOCKETS, sockets, width)
    return _drawn(console, table, _title(tab, sockets, frame.sockets, state), Text(), width)


def _title(tab: Tab, shown: Sequence[object], all_rows: Sequence[object], state: ViewState) -> Text:
    noun = {Tab.TARGETS: "target", Tab.CHECKS: "health check", Tab.SOCKETS: "command socket"}[tab]
    title = Text(plural(len(all_rows), noun), STRONG)
    if state.filter:
        title.append_text(word(f'  filter "{state.filter}": {len(shown)}', STRONG))
    return title


def _drawn(console: Console, table: Table, title: Text, right: Text, width: int) -> Drawn:
    drawn = lines(console, table, width)
    return Drawn(rule(console, title, right, width), drawn[:1], drawn[1:])


def _table(
    columns: Iterable[Column[Row]], rows: Iterable[Row], width: int, sorted_by: str = ""
) -> Table:
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    chosen = [column for column in columns if width >= column.from_width]
    for column in chosen:
        style = "reverse" if column.title == sorted_by else f"{DIM} underline"
        table.add_column(
            Text(column.title, style),
            justify=column.align,
            no_wrap=True,
            overflow="ellipsis",
            ratio=column.ratio,
            min_width=len(column.title) if not column.ratio else 8,
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in chosen))
    return table
