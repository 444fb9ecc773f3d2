"""The tables of a report: each column once, for every printer.  Cells are unescaped text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from hatrace.model.finding import Evidence
from hatrace.sinks.live.frame import SocketRow, TargetRow
from hatrace.sinks.report.content import CheckSummary
from hatrace.sinks.text import count, duration, rate, size

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column; ``detail``: only where there is room for more than 80 characters."""

    title: str
    cell: Callable[[Row], str]
    right: bool = False
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Titles, alignment and cells; columns without any content are left out."""

    titles: tuple[str, ...]
    right: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    common: tuple[str, ...]
    """What is the same in all rows, where that was asked for: ``remote 192.0.2.1:8000``."""


def table(
    columns: Sequence[Column[Row]], rows: Sequence[Row], detail: bool = True, factor: bool = False
) -> Table:
    """The cells of ``rows``; ``factor``: what all rows have in common is said once."""
    cells = {
        column.title: [column.cell(row) for row in rows]
        for column in columns
        if detail or not column.detail
    }
    same = {
        title: column[0]
        for title, column in cells.items()
        if factor and len(rows) > 1 and len(set(column)) == 1
    }
    shown = [c for c in columns if any(cells.get(c.title, ())) and c.title not in same]
    return Table(
        tuple(column.title for column in shown),
        tuple(column.right for column in shown),
        tuple(zip(*(cells[column.title] for column in shown), strict=True)),
        tuple(f"{title} {cell}" for title, cell in same.items() if cell),
    )


def _process(row: Evidence) -> str:
    return " ".join(part for part in (row.comm, str(row.pid or "")) if part)


def _age(row: Evidence) -> str:
    """An adopted socket is older than hatrace knows."""
    if row.age_s is None:
        return ""
    return f">{duration(row.age_s)}" if row.preexisting else duration(row.age_s)


def _bytes(number: int | None) -> str:
    return "" if number is None else size(number)


def _number(number: int | None) -> str:
    return "" if number is None else str(number)


EVIDENCE: tuple[Column[Evidence], ...] = (
    Column("what", lambda row: "" if row.what == "tcp" else row.what),
    Column("process", _process),
    Column("fd", lambda row: _number(row.fd), right=True),
    Column("inode", lambda row: _number(row.inode), right=True, detail=True),
    Column("local", lambda row: row.local),
    Column("remote", lambda row: row.remote),
    Column("state", lambda row: row.state),
    Column("is", lambda row: row.condition),
    Column("age", _age, right=True),
    Column("so for", lambda row: duration(row.since_s) if row.since_s is not None else "", True),
    Column("sent", lambda row: _bytes(row.sent_bytes), right=True, detail=True),
    Column("received", lambda row: _bytes(row.received_bytes), right=True, detail=True),
    Column("note", lambda row: row.note),
)


def _median(row: TargetRow) -> str:
    if row.median_s is None:
        return ""
    return f">{duration(4**14 / 1e6)}" if math.isinf(row.median_s) else f"<{duration(row.median_s)}"


TARGETS: tuple[Column[TargetRow], ...] = (
    Column("role", lambda row: row.role.value),
    Column("target", lambda row: row.name),
    Column("address", lambda row: "" if row.address in row.name else row.address),
    Column("pid", lambda row: str(row.pid or ""), right=True, detail=True),
    Column("open", lambda row: count(row.open), right=True),
    Column("held", lambda row: count(row.held), right=True),
    Column("new/s", lambda row: rate(row.born_per_s), right=True),
    Column("ended/s", lambda row: rate(row.gone_per_s), right=True, detail=True),
    Column("failed", lambda row: count(row.failed), right=True),
    Column("reset", lambda row: count(row.reset), right=True, detail=True),
    Column("oldest", lambda row: duration(row.oldest_s) if row.oldest_s else "", right=True),
    Column("p50", _median, right=True, detail=True),
)


def _observed(row: CheckSummary) -> str:
    return "?" if row.row.observed_s is None else duration(row.row.observed_s)


def _check_held(row: CheckSummary) -> str:
    too_many = row.row.held > row.row.healthy_held
    return f"{count(row.row.held)}{' (too many)' if too_many else ''}"


CHECKS: tuple[Column[CheckSummary], ...] = (
    Column("server", lambda row: row.row.server),
    Column("kind", lambda row: "agent" if row.row.agent else ""),
    Column("pid", lambda row: str(row.row.pid), right=True, detail=True),
    Column("status", lambda row: row.row.status),
    Column("every", lambda row: f"{duration(row.row.expected_s)} {row.row.expected_name}".strip()),
    Column("seen every", _observed, right=True),
    Column("begun", lambda row: count(row.row.started), right=True),
    Column("ended", lambda row: count(row.row.ended), right=True),
    Column("held", _check_held, right=True),
    Column("latest results", lambda row: ", ".join(row.results) or row.row.last_result),
)


def _slots(row: SocketRow) -> str:
    text = f"{row.used}/{row.limit if row.limit is not None else '?'}"
    return f"{text} FULL" if row.limit is not None and row.used >= row.limit else text


SOCKETS: tuple[Column[SocketRow], ...] = (
    Column("command socket", lambda row: row.path),
    Column("of", lambda row: f"{'master' if row.master else 'worker'} {row.pid}"),
    Column("slots", _slots, right=True),
    Column("waiting", lambda row: count(row.waiting), right=True),
    Column("level", lambda row: row.level),
    Column("held by", lambda row: ", ".join(row.holders)),
    Column("calls", lambda row: "" if row.calls is None else count(row.calls), right=True),
    Column("latest callers", lambda row: ", ".join(row.callers[:5])),
)
