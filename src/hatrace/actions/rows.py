"""Flows as rows for a reader: who holds each, in which state, and for how long it is quiet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hatrace.model.event import Holder
from hatrace.model.finding import Evidence
from hatrace.model.flow import Flow, State
from hatrace.sockets.netlink import namespace_of

MOST_LINES = 5
SHORT_NS = 1_000_000_000


def fds_of(held: Iterable[Holder]) -> dict[tuple[int, int], int]:
    """(pid, inode) → the lowest fd."""
    found: dict[tuple[int, int], int] = {}
    for holder in sorted(held, key=lambda each: -each.fd):
        found[holder.pid, holder.inode] = holder.fd
    return found


def row(flow: Flow, now_ns: int, fd: int | None, note: str = "") -> Evidence:
    """One flow; its age is unknown, so that how long it is quiet is said instead."""
    quiet = quiet_ns(flow, now_ns)
    parts = [note] if note else []
    if quiet is not None and quiet >= SHORT_NS:
        parts.append(f"quiet for {quiet / 1e9:.0f} s")
    plain = Evidence.of(flow, now_ns, fd, ", ".join(parts))
    return replace(plain, age_s=None, since_s=None)


def quiet_ns(flow: Flow, now_ns: int) -> int | None:
    """Since data moved last, so the flow is at least this old; None: unknown."""
    if not flow.moved_ns or flow.state in (State.SYN_SENT, State.LISTEN):
        return None
    return max(0, now_ns - flow.moved_ns)


def by_hand(flow: Flow) -> str:
    """iproute2's way to destroy one connection, in its owner's network namespace."""
    inside = "" if flow.netns in (0, namespace_of()) else f"nsenter -t {flow.pid} -n "
    return f"{inside}ss -K src '{flow.local}' dst '{flow.remote}'"


def by_hand_all(flows: Sequence[Flow]) -> str:
    """A line each, and no more than can be read."""
    lines = [by_hand(flow) for flow in flows[:MOST_LINES]]
    if len(flows) > MOST_LINES:
        lines.append(f"# and {len(flows) - MOST_LINES} more")
    return "\n".join(lines)


def counted(number: int, noun: str) -> str:
    """``1 socket``, ``2 sockets``, ``no sockets``."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
