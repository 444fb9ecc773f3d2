"""Totals per target, kept in user space: what ``struct target_total`` is to the BPF rungs."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from hatrace.model.event import Target
from hatrace.model.flow import Flag, Flow, State

LIFETIME_BUCKETS = 16
_CONNECTED, _ACCEPTED = int(Flag.CONNECTED), int(Flag.ACCEPTED)
_ADOPTED, _FAILED = int(Flag.ADOPTED), int(Flag.FAILED)
_RESET = int(Flag.RST_SENT | Flag.RST_RECEIVED)

Key = tuple[bool, bytes, int, int, int]
"""Inbound, address, port, pid (0: inbound), network namespace."""


@dataclass(slots=True)
class Total:
    """The growing numbers of one target."""

    index: int
    born: int = 0
    adopted: int = 0
    gone: int = 0
    failed: int = 0
    reset: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    lifetime: list[int] = field(default_factory=lambda: [0] * LIFETIME_BUCKETS)


def key_of(flow: Flow) -> Key | None:
    """What a flow counts for; None for listeners and sockets that never connected."""
    if flow.state == State.LISTEN or not flow.flags & (_CONNECTED | _ACCEPTED):
        return None
    if flow.flags & _ACCEPTED:
        return True, flow.laddr, flow.lport, 0, flow.netns
    return False, flow.raddr, flow.rport, flow.pid, flow.netns


def bucket(lifetime_ns: int) -> int:
    """Bucket n counts lifetimes under 4**n us, the last all above."""
    return min(((max(0, lifetime_ns) // 1000).bit_length() + 1) // 2, LIFETIME_BUCKETS - 1)


class Totals:
    """All targets so far, in the order they were met; their index starts at 1."""

    def __init__(self) -> None:
        self._totals: dict[Key, Total] = {}
        self._by_index: dict[int, Total] = {}
        self._clients: dict[tuple[bytes, int, int], set[int]] = {}

    def enter(self, flow: Flow) -> int:
        """Count a flow that has appeared; its target's index, 0 if it counts for none."""
        key = key_of(flow)
        if key is None:
            return 0
        total = self._totals.get(key)
        if total is None:
            total = self._totals[key] = Total(len(self._totals) + 1)
            self._by_index[total.index] = total
            if not key[0]:
                self._clients.setdefault((key[1], key[2], key[4]), set()).add(key[3])
        if flow.flags & _ADOPTED:
            total.adopted += 1
        else:
            total.born += 1
        return total.index

    def leave(self, flow: Flow) -> None:
        """Count a flow that is gone."""
        total = self._by_index.get(flow.target)
        if total is None:
            return
        total.gone += 1
        total.failed += bool(flow.flags & _FAILED)
        total.reset += bool(flow.flags & _RESET)
        total.sent_bytes += flow.sent_bytes
        total.received_bytes += flow.received_bytes
        total.lifetime[bucket((flow.released_ns or flow.gone_ns) - flow.born_ns)] += 1

    def owner_of(self, address: bytes, port: int, netns: int, pids: Container[int]) -> int:
        """The one process of ``pids`` known to connect there; 0 if none, or several."""
        clients = self._clients.get((address, port, netns), ())
        found = [pid for pid in clients if pid in pids]
        return found[0] if len(found) == 1 else 0

    def rows(self) -> tuple[Target, ...]:
        return tuple(_row(key, total) for key, total in self._totals.items())


def _row(key: Key, total: Total) -> Target:
    inbound, address, port, pid, netns = key
    return Target(
        index=total.index,
        inbound=inbound,
        address=address,
        port=port,
        pid=pid,
        netns=netns,
        born=total.born,
        adopted=total.adopted,
        gone=total.gone,
        failed=total.failed,
        reset=total.reset,
        sent_bytes=total.sent_bytes,
        received_bytes=total.received_bytes,
        lifetime=tuple(total.lifetime),
    )
