"""Sever: destroy connections one by one, and see whether their owners let go of the fds.

SOCK_DESTROY ends a connection on both sides at once: the owner reads ECONNABORTED, the peer
gets a RST.  The fd is the owner's: one that does not notice keeps it, as a ghost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hatrace.actions.desk import Change, Desk
from hatrace.actions.rows import by_hand
from hatrace.model.event import Holder
from hatrace.model.flow import Flow
from hatrace.sockets.destroy import destroy
from hatrace.sockets.holders import holds

PATIENCE_S = 3.0
"""For an owner to notice; HAProxy's poller wakes at once."""
LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Severed:
    """What became of one connection."""

    flow: Flow
    fd: int | None
    destroyed: bool
    text: str
    held: bool
    """Its owner still has the fd."""


def sever(flows: Sequence[tuple[Flow, int | None]], desk: Desk) -> list[Severed]:
    """Destroy each flow (with its fd); each is told to the desk.  The user has agreed."""
    outcomes = [destroy(flow, flow.pid) for flow, _ in flows]
    at_ns = time.monotonic_ns()
    held = _still_held(flows, at_ns + int(PATIENCE_S * 1e9))
    done = []
    for (flow, fd), outcome in zip(flows, outcomes, strict=True):
        text = outcome.text
        if outcome.done:
            kept = flow.inode in held
            text += f"; pid {flow.pid} keeps fd {fd}" if kept else f"; pid {flow.pid} let go of it"
            desk.did(Change(f"destroy {flow.local} to {flow.remote}", by_hand(flow)), text)
        done.append(Severed(flow, fd, outcome.done, text, flow.inode in held))
    return done


def _still_held(flows: Sequence[tuple[Flow, int | None]], end_ns: int) -> set[int]:
    """Inodes whose owners have not let go until ``end_ns``."""
    waiting = {flow.inode: Holder(flow.pid, fd, flow.inode) for flow, fd in flows if fd is not None}
    while waiting:
        waiting = {inode: holder for inode, holder in waiting.items() if holds(holder)}
        if time.monotonic_ns() > end_ns:
            break
        time.sleep(LOOK_S)
    return set(waiting)
