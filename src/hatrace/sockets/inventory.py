"""One look at all TCP sockets of some processes: their fds joined with sock_diag's tables.

First the fds, then the tables: a socket that is among the fds but in no table afterwards
is either a ghost, or never was connected, or has just been closed; ghosts.py tells which.
Of one that was in a table before, its fd tells, asked again: 12 us each, once for a ghost.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from hatrace.errors import HatraceError
from hatrace.model.event import Holder, Trouble
from hatrace.model.flow import Flow
from hatrace.sockets import tcp_diag
from hatrace.sockets.ghosts import ghosts
from hatrace.sockets.holders import by_inode, holders, holds
from hatrace.sockets.names import comm_bytes
from hatrace.sockets.netlink import Diag, namespace_of, within
from hatrace.sockets.tcp_diag import Surroundings, surroundings


@dataclass(slots=True)
class Look:
    """What was seen in the network namespaces of some processes."""

    at_ns: int = 0
    """When the tables began to be read."""
    held: list[Holder] = field(default_factory=list)
    """Every socket fd of the processes, of any kind."""
    flows: dict[int, Flow] = field(default_factory=dict)
    """TCP sockets in a table, by ``id``: those the processes hold (OWNED), every orphan, and
    those the caller knows already."""
    ghosts: dict[int, Flow] = field(default_factory=dict)
    """Their TCP sockets in no table, by ``id``."""
    asked: set[int] = field(default_factory=set)
    """Inodes in no table which were asked about: those not among `ghosts` are no TCP sockets,
    or have ended."""
    around: dict[int, Surroundings] = field(default_factory=dict)
    """By inode of the network namespace."""
    troubles: list[Trouble] = field(default_factory=list)

    @property
    def owned(self) -> list[Flow]:
        """All TCP sockets that these processes hold."""
        return [flow for flow in self.flows.values() if flow.pid] + list(self.ghosts.values())


def look(
    pids: Iterable[int],
    known: Container[int] = (),
    keep: Container[int] = (),
    lend: bool = True,
    tabled: Container[int] = (),
) -> Look:
    """Look now.  ``known``: inodes that need not be asked about again if in no table.

    ``tabled``: inodes of those that were in a table the last time.
    ``keep``: ids of flows which the caller knows, reported whoever holds them by now.
    ``lend`` as in `ghosts`.  A namespace that cannot be entered becomes a Trouble;
    raises netlink.Refused where our own cannot be listed.
    """
    pids = list(pids)
    seen = Look()
    seen.held, seen.troubles = holders(pids)
    comms = {pid: comm_bytes(pid) for pid in pids}
    owners = {
        inode: (holder.pid, comms[holder.pid]) for inode, holder in by_inode(seen.held).items()
    }
    here = namespace_of()
    for netns, inside in _namespaces(pids, here).items():
        try:
            around, flows = within(
                None if netns == here else inside[0], lambda: _tables(owners, keep)
            )
        except HatraceError as error:
            if netns == here:
                raise
            seen.troubles.append(_trouble(inside[0], error))
            continue
        seen.at_ns = seen.at_ns or around.now_ns
        seen.around[around.netns] = around
        seen.flows |= flows
    _leave_out_closed(seen, tabled)
    _add_ghosts(seen, known, lend)
    return seen


def _namespaces(pids: Iterable[int], here: int | None) -> dict[int | None, list[int]]:
    """Processes by network namespace; those whose namespace is unknown count as in ours."""
    found: dict[int | None, list[int]] = {}
    for pid in pids:
        found.setdefault(namespace_of(pid) or here, []).append(pid)
    return found


def _tables(
    owners: dict[int, tuple[int, bytes]], keep: Container[int]
) -> tuple[Surroundings, dict[int, Flow]]:
    """The tables of the network namespace that this thread is in."""
    around = surroundings(owners)
    with Diag() as diag:
        return around, {
            flow.id: flow
            for flow in tcp_diag.dump(diag, around)
            if flow.pid or flow.released_ns or flow.id in keep
        }


def _leave_out_closed(seen: Look, before: Container[int]) -> None:
    """What was closed while the tables were read is held no more, and no ghost."""
    tabled = {flow.inode for flow in seen.flows.values()}
    seen.held = [
        holder
        for holder in seen.held
        if holder.inode in tabled or holder.inode not in before or holds(holder)
    ]


def _add_ghosts(seen: Look, known: Container[int], lend: bool) -> None:
    tabled = {flow.inode for flow in seen.flows.values()}
    by_pid: dict[int, list[Holder]] = {}
    for inode, holder in by_inode(seen.held).items():
        if inode not in tabled and inode not in known:
            seen.asked.add(inode)
            by_pid.setdefault(holder.pid, []).append(holder)
    for pid, held in by_pid.items():
        around = seen.around.get(namespace_of(pid) or 0)
        if around is not None:
            seen.ghosts |= {flow.id: flow for flow in ghosts(held, around, lend)}


def _trouble(pid: int, error: HatraceError) -> Trouble:
    subject = f"network namespace of process {pid}"
    return Trouble(time.monotonic_ns(), "sock_diag", subject, str(error), error.do)
