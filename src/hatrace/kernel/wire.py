"""Bytes to values: the structs of bpf/flow.h other than ``struct flow`` (model/flow.py).

tests/unit/kernel/test_wire.py compiles flow.h and compares every offset with this.
"""

from __future__ import annotations

import socket
import struct
from array import array
from collections.abc import Container, Iterable
from dataclasses import dataclass

from hatrace.model.event import CommandCalls, Holder, Losses, Target
from hatrace.model.flow import EPHEMERAL_PORTS, State

CONFIG = struct.Struct("<QQIIII16sHHI")
"""secret, cgroup_id, cgroup_level, scope, summary, hz, comm, port_low, port_high, lane_flows."""
LANE = struct.Struct("<QQQ40x")
"""written, busy, read."""
CRITERIA = struct.Struct("<QQQQQIII4x")
"""half_closed_ns, ghost_ns, orphan_ns, unanswered_ns, idle_ns, limit, everything, whole."""
TARGET_KEY = struct.Struct("<16sIIHB5x")
"""addr, pid, netns, port, direction."""
TARGET_TOTAL = struct.Struct("<6Q16I")
"""adopted, gone, failed, reset, sent_bytes, received_bytes, lifetime[16]."""
LOSSES = struct.Struct("<4Q")
"""ring_full, flows_full, targets_full, overwritten."""
HELD = struct.Struct("<IIIHBB")
"""pid, fd, inode, family, protocol, state."""
UNIX_PATH = struct.Struct("<108s")
"""name."""
PROCESS = struct.Struct("16s")
"""comm."""
UNIX_CALLER = struct.Struct("<II")
"""pid, path."""
UNIX_CALLS = struct.Struct("<QQ16s")
"""connects, last_ns, comm."""

ESTABLISHED = frozenset(
    struct.unpack("=I", struct.pack("=HBB", family, socket.IPPROTO_TCP, State.ESTABLISHED))[0]
    for family in (socket.AF_INET, socket.AF_INET6)
)
"""What family, protocol and state of `HELD` make together."""

SCOPE_TGIDS, SCOPE_CGROUP, SCOPE_ALL = 0, 1, 2
SCAN_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Config:
    """``struct config``."""

    secret: int
    scope: int
    hz: int = 0
    comm: bytes = b""
    cgroup_id: int = 0
    cgroup_level: int = 0
    summary: bool = False
    ephemeral: range = EPHEMERAL_PORTS
    lane_flows: int = 0

    def pack(self) -> bytes:
        return CONFIG.pack(
            self.secret,
            self.cgroup_id,
            self.cgroup_level,
            self.scope,
            self.summary,
            self.hz,
            self.comm[:15],
            self.ephemeral[0],
            self.ephemeral[-1],
            self.lane_flows,
        )


@dataclass(frozen=True, slots=True)
class Criteria:
    """``struct criteria``: which open flows a scan reports; ns, 0: none of the kind."""

    half_closed_ns: int = 1_000_000_000
    """Half a second of CLOSE_WAIT is ordinary: HAProxy answers a FIN within one event loop."""
    ghost_ns: int = 500_000_000
    orphan_ns: int = 2_000_000_000
    unanswered_ns: int = 1_000_000_000
    """The first SYN retransmission comes after one second (RFC 6298, 2.1)."""
    idle_ns: int = 0
    limit: int = SCAN_LIMIT
    everything: bool = False
    whole: bool = False
    """Whether calm flows are looked at, too, which they must be for ``idle_ns`` and
    ``everything``."""

    def pack(self) -> bytes:
        return CRITERIA.pack(
            self.half_closed_ns,
            self.ghost_ns,
            self.orphan_ns,
            self.unanswered_ns,
            self.idle_ns,
            self.limit,
            self.everything,
            self.whole,
        )


def target(index: int, key: bytes, per_cpu: bytes, open_now: int) -> Target:
    """A target from its key, its totals (one ``struct target_total`` for each CPU) and the
    number of its flows that the latest scan counted."""
    addr, pid, netns, port, direction = TARGET_KEY.unpack(key)
    adopted, gone, failed, reset, sent, received, *lifetime = _summed(TARGET_TOTAL, per_cpu)
    return Target(
        index=index,
        inbound=bool(direction),
        address=addr,
        port=port,
        pid=pid,
        netns=netns,
        # A flow that went between the scan and this look is counted twice: for one beat.
        born=max(0, gone + open_now - adopted),
        adopted=adopted,
        gone=gone,
        failed=failed,
        reset=reset,
        sent_bytes=sent,
        received_bytes=received,
        lifetime=tuple(lifetime),
    )


def _summed(layout: struct.Struct, per_cpu: bytes) -> list[int]:
    """Column sums of one struct per CPU."""
    return [sum(column) for column in zip(*layout.iter_unpack(per_cpu), strict=True)]


def losses(at_ns: int, per_cpu: bytes, scan_truncated: int) -> Losses:
    """The counters summed over all CPUs."""
    ring_full, flows_full, targets_full, overwritten = _summed(LOSSES, per_cpu)
    return Losses(at_ns, ring_full, flows_full, targets_full, overwritten, scan_truncated)


def command_calls(path: str, pid: int, calls: bytes) -> CommandCalls:
    """One process's calls of a command-line socket."""
    connects, last_ns, comm = UNIX_CALLS.unpack(calls)
    name = comm.rstrip(b"\0").decode(errors="replace")
    return CommandCalls(path, pid, name, connects, last_ns)


def holders(records: bytes, wanted: Container[int] | None = None) -> Iterable[Holder]:
    """The socket fds of an inventory.

    With ``wanted``, of established TCP connections, which most are, only those of these inodes.
    """
    if wanted is None:
        kept: Iterable[int] = range(len(records) // HELD.size)
    else:
        words = array("I", records)
        kinds, inodes = words[3::4], words[2::4]
        kept = [
            number
            for number, kind in enumerate(kinds)
            if kind not in ESTABLISHED or inodes[number] in wanted
        ]
    for number in kept:
        pid, fd, inode, _, _, _ = HELD.unpack_from(records, number * HELD.size)
        yield Holder(pid, fd, inode)
