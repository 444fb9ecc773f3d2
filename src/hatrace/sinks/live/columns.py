"""What the three tables say of a target, a server's checks, a command-line socket."""

from __future__ import annotations

import math

from hatrace.sinks.live.frame import CheckRow, SocketRow, TargetRow
from hatrace.sinks.live.layout import Cell, Column
from hatrace.sinks.live.paint import ALARM, CARE, DIM, STRONG
from hatrace.sinks.text import count, duration, rate, size


def _held(row: TargetRow) -> Cell:
    return Cell(count(row.held), STRONG if row.held else DIM)


def _zero_dim(number: int) -> Cell:
    return Cell(count(number), "" if number else DIM)


def _median(row: TargetRow) -> str:
    if row.median_s is None:
        return ""
    return f">{duration(4**14 / 1e6)}" if math.isinf(row.median_s) else f"<{duration(row.median_s)}"


TARGETS: tuple[Column[TargetRow], ...] = (
    Column("role", lambda row: Cell(row.role, DIM), "left"),
    Column("target", lambda row: row.name, "left", ratio=2),
    Column("address", lambda row: row.address, "left", 120, ratio=2),
    Column("pid", lambda row: str(row.pid or ""), from_width=100),
    Column("open", lambda row: count(row.open)),
    Column("held", _held),
    Column("new/s", lambda row: rate(row.born_per_s)),
    Column("ended/s", lambda row: rate(row.gone_per_s)),
    Column("failed", lambda row: _zero_dim(row.failed)),
    Column("reset", lambda row: _zero_dim(row.reset), from_width=150),
    Column("oldest", lambda row: duration(row.oldest_s) if row.held else ""),
    Column("p50", _median, least=5),
    Column("sent", lambda row: size(row.sent_bytes), from_width=150),
    Column("received", lambda row: size(row.received_bytes), from_width=150),
)


def _observed(row: CheckRow) -> Cell:
    """The rhythm seen, and in a word how it compares with the configured one."""
    if row.observed_s is None:
        return Cell("?", DIM)
    text = duration(row.observed_s)
    if row.expected_s and row.observed_s > 1.25 * row.expected_s + 0.1:
        return Cell(f"{text} LATE", CARE)
    if row.expected_s and row.observed_s < 0.75 * row.expected_s - 0.1:
        return Cell(f"{text} EARLY", CARE)
    return Cell(text)


_HARMLESS = ("", "connecting", "running", "connected", "answered", "INI", "UNK")
"""Results (`Check.result`) which say nothing against the server, beside ``L4OK``, ``L7OK`` ..."""


def _check_held(row: CheckRow) -> Cell:
    if row.held > row.healthy_held:
        return Cell(f"{count(row.held)} !", ALARM)
    return Cell(count(row.held), "" if row.held else DIM)


def _result(row: CheckRow) -> Cell:
    good = row.last_result.endswith("OK") or row.last_result in _HARMLESS
    return Cell(row.last_result or "?", "" if good else CARE)


CHECKS: tuple[Column[CheckRow], ...] = (
    Column("server", lambda row: row.server, "left", ratio=2),
    Column("kind", lambda row: "agent" if row.agent else "health", "left", 100),
    Column("pid", lambda row: str(row.pid), from_width=100),
    Column("status", lambda row: row.status, "left"),
    Column("every", lambda row: duration(row.expected_s)),
    Column("by", lambda row: Cell(row.expected_name, DIM), "left", 100),
    Column("seen every", _observed, "left"),
    Column("last", _result, "left", ratio=2),
    Column(
        "took", lambda row: "" if row.last_took_s is None else duration(row.last_took_s), least=5
    ),
    Column("ago", lambda row: "" if row.last_ago_s is None else duration(row.last_ago_s), least=5),
    Column("begun", lambda row: count(row.started), from_width=100),
    Column("ended", lambda row: count(row.ended), from_width=100),
    Column("held", _check_held),
)


def _slots(row: SocketRow) -> Cell:
    """``3/10``, ``10/10 FULL``."""
    text = f"{row.used}/{row.limit if row.limit is not None else '?'}"
    full = row.limit is not None and row.used >= row.limit
    return Cell(f"{text} FULL", ALARM) if full else Cell(text)


def _waiting(row: SocketRow) -> Cell:
    return Cell(count(row.waiting), ALARM if row.waiting else DIM)


SOCKETS: tuple[Column[SocketRow], ...] = (
    Column("command socket", lambda row: row.path, "left", ratio=2),
    Column("of", lambda row: Cell("master" if row.master else "worker", DIM), "left"),
    Column("pid", lambda row: str(row.pid)),
    Column("slots", _slots, "left"),
    Column("waiting", _waiting),
    Column("level", lambda row: row.level, "left", 120),
    Column("calls", lambda row: "" if row.calls is None else count(row.calls), from_width=100),
    Column("held by", lambda row: ", ".join(row.holders), "left", ratio=3),
    Column("latest callers", lambda row: ", ".join(row.callers[:3]), "left", 120, ratio=3),
)
