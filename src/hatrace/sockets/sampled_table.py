"""The flow table of the `netlink` rung: what consecutive looks say about each socket's life.

Times are those of the look that first saw a thing, so they are late by up to the interval.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from hatrace.model.event import Target
from hatrace.model.flow import Flag, Flow, State
from hatrace.sockets.ghosts import INODE_ID
from hatrace.sockets.inventory import Look
from hatrace.sockets.totals import Totals

# Plain numbers: arithmetic on an IntFlag costs a microsecond.
_ADOPTED, _OWNED, _FAILED = int(Flag.ADOPTED), int(Flag.OWNED), int(Flag.FAILED)
_RST_SENT = int(Flag.RST_SENT)
_SIDES = int(Flag.CONNECTED | Flag.ACCEPTED)
_CLOSE, _LISTEN, _SYN_SENT = int(State.CLOSE), int(State.LISTEN), int(State.SYN_SENT)
_CLOSE_WAIT = int(State.CLOSE_WAIT)


class Criteria(Protocol):
    """Which open flows a scan reports: ``struct criteria`` of bpf/flow.h; ns, 0: none."""

    @property
    def half_closed_ns(self) -> int: ...
    @property
    def ghost_ns(self) -> int: ...
    @property
    def orphan_ns(self) -> int: ...
    @property
    def unanswered_ns(self) -> int: ...
    @property
    def idle_ns(self) -> int: ...
    @property
    def limit(self) -> int: ...
    @property
    def everything(self) -> bool: ...


class SampledTable:
    """Open flows by id, the flows that ended since they were last taken, and the totals."""

    def __init__(self) -> None:
        self.open: dict[int, Flow] = {}
        self._finished: list[bytes] = []
        self._totals = Totals()
        self._watched: dict[int, int] = {}
        self._listeners: dict[tuple[int, int], int] = {}
        self._pids: frozenset[int] = frozenset()
        self._looked_ns = 0

    def update(self, look: Look, pids: Collection[int]) -> None:
        """Fold one look at the processes ``pids`` into the table; the first one adopts."""
        self._pids = frozenset(pids)
        before, self.open = self.open, {}
        self._listeners = _listeners(look)
        for flow in (*look.flows.values(), *look.ghosts.values()):
            known = before.pop(flow.id, None)
            if known is not None:
                self.open[flow.id] = self._counted(continued(known, flow))
            elif flow.pid or (flow.released_ns and self._claimed(flow)):
                self.open[flow.id] = self._entered(flow)
        self._settle(before, look)
        self._looked_ns = look.at_ns

    def tabled(self) -> set[int]:
        """The inodes of sockets that were in a table of the kernel's at the latest look."""
        return {flow.inode for flow in self.open.values() if flow.state != _CLOSE}

    def _settle(self, missing: dict[int, Flow], look: Look) -> None:
        """Flows that the look did not show: ghosts while their file is held, else ended."""
        held = {holder.inode for holder in look.held}
        shown = {flow.inode for flow in self.open.values()}
        for flow in missing.values():
            if flow.inode in shown and flow.id & INODE_ID:
                continue  # now known by its cookie
            if flow.inode in held and not flow.released_ns:
                self.open[flow.id] = closed(flow, look.at_ns)
            else:
                self._end(flow, look.at_ns)

    def _entered(self, flow: Flow) -> Flow:
        """A flow of ours that was not there at the last look."""
        if not flow.pid:
            flow = flow._replace(pid=self._claimed(flow) or 0)
        if self._looked_ns:
            flow = flow._replace(flags=flow.flags & ~_ADOPTED)
        return self._counted(flow)

    def _counted(self, flow: Flow) -> Flow:
        if flow.target or not flow.flags & _SIDES:
            return flow
        return flow._replace(target=self._totals.enter(flow))

    def _claimed(self, flow: Flow) -> int | None:
        """The process that an unheld flow must have belonged to; 0: one of several; None: none.

        Inbound: to a port that they listen on.  Outbound: to where one of them connects, too;
        an inference, so such flows are not OWNED.
        """
        listener = self._listeners.get((flow.netns, flow.lport))
        if listener is not None:
            return listener
        return self._totals.owner_of(flow.raddr, flow.rport, flow.netns, self._pids) or None

    def destroyed(self, flow: Flow) -> None:
        """The kernel says that this socket is gone, and what it had carried.

        Not so of one that its owner aborted (SO_LINGER 0): tcp_disconnect() has then cleared
        all but the cookie.  A remote port missing at the end tells so.
        """
        known = self.open.pop(flow.id, None)
        if known is None:
            if self._looked_ns and self._claimed(flow) is not None:
                born = max(self._looked_ns, flow.moved_ns)
                self._end(self._entered(flow._replace(born_ns=born)), flow.born_ns)
            return
        aborted = known.rport and not flow.rport
        final = known._replace(
            sent_bytes=max(known.sent_bytes, flow.sent_bytes),
            received_bytes=max(known.received_bytes, flow.received_bytes),
            flags=known.flags | flow.flags & _FAILED | (_RST_SENT if aborted else 0),
        )
        self._end(final, flow.born_ns)

    def _end(self, flow: Flow, now_ns: int) -> None:
        """``closer`` is the last known holder: who else could have been is not known."""
        failed = _FAILED if flow.state == _SYN_SENT else 0
        flow = flow._replace(
            released_ns=flow.released_ns or now_ns,
            gone_ns=now_ns,
            closer=flow.pid,
            state=_CLOSE,
            flags=flow.flags | failed,
        )
        self._totals.leave(flow)
        self._finished.append(flow.pack())

    def take_finished(self) -> bytes:
        finished, self._finished = self._finished, []
        return b"".join(finished)

    def watch(self, target: int, age_ns: int) -> None:
        """Report this target's open flows older than ``age_ns``, whatever their state."""
        self._watched[target] = age_ns

    def targets(self) -> tuple[Target, ...]:
        return self._totals.rows()

    def suspects(self, criteria: Criteria, now_ns: int) -> tuple[bytes, int]:
        """Open flows which meet the criteria: packed up to the limit, and how many matched."""
        found = [
            flow
            for flow in self.open.values()
            if criteria.everything
            or _older(now_ns, flow.born_ns, self._watched.get(flow.target, 0))
            or suspect(criteria, flow, now_ns)
        ]
        return b"".join(flow.pack() for flow in found[: criteria.limit]), len(found)


def _listeners(look: Look) -> dict[tuple[int, int], int]:
    """Namespace and port of our listeners: the pid, or 0 where several processes listen."""
    found: dict[tuple[int, int], int] = {}
    for flow in look.flows.values():
        if flow.state == _LISTEN and flow.pid:
            place = flow.netns, flow.lport
            found[place] = flow.pid if found.get(place, flow.pid) == flow.pid else 0
    return found


def continued(known: Flow, flow: Flow) -> Flow:
    """``flow`` as just seen, with the past of ``known``."""
    flags = known.flags | flow.flags & ~_ADOPTED
    if known.flags & _SIDES:
        flags = known.flags | flow.flags & ~_ADOPTED & ~_SIDES
    established = known.established_ns
    if known.state == _SYN_SENT != flow.state:
        established = flow.born_ns
    return Flow(
        known.id,
        known.born_ns,
        known.connect_ns or flow.connect_ns,
        established,
        known.fin_ns or flow.fin_ns,
        known.closed_ns if flow.state == _CLOSE else 0,
        known.released_ns or flow.released_ns,
        0,
        flow.moved_ns,
        flow.sent_bytes,
        flow.received_bytes,
        flow.cookie,
        flow.laddr,
        flow.raddr,
        flow.comm_bytes if flow.pid else known.comm_bytes,
        flow.pid or known.pid,
        0,
        flow.inode or known.inode,
        known.netns,
        known.target,
        flow.unread_bytes,
        flow.unsent_bytes,
        flow.lport,
        flow.rport,
        flags,
        0,
        flow.family,
        flow.state,
    )


def closed(flow: Flow, now_ns: int) -> Flow:
    """A flow whose socket left the tables while it is held: its connection is over."""
    if flow.state == _CLOSE:
        return flow
    failed = _FAILED if flow.state == _SYN_SENT else 0
    return flow._replace(
        state=_CLOSE,
        closed_ns=now_ns if flow.flags & _SIDES else 0,
        flags=flow.flags | failed,
    )


def suspect(criteria: Criteria, flow: Flow, now_ns: int) -> bool:
    """As ``suspect()`` of bpf/scan.bpf.c decides."""
    if flow.released_ns:
        return _older(now_ns, flow.released_ns, criteria.orphan_ns)
    if flow.state == _LISTEN:
        return True
    if flow.state == _CLOSE:
        return _older(now_ns, flow.closed_ns or flow.born_ns, criteria.ghost_ns)
    if flow.state == _CLOSE_WAIT:
        return _older(now_ns, flow.fin_ns or flow.born_ns, criteria.half_closed_ns)
    if flow.state == _SYN_SENT:
        return _older(now_ns, flow.connect_ns or flow.born_ns, criteria.unanswered_ns)
    return _older(now_ns, max(flow.moved_ns, flow.established_ns), criteria.idle_ns)


def _older(now_ns: int, since_ns: int, limit_ns: int) -> bool:
    return bool(limit_ns and since_ns and now_ns - since_ns > limit_ns)
