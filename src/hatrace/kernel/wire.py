"""The structs of bpf/flow.h other than ``struct flow`` (model/flow.py), and those we write.

tests/unit/kernel/test_wire.py compiles flow.h and compares every offset with this.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hatrace.model.columns import WORDS
from hatrace.model.flow import EPHEMERAL_PORTS

CONFIG = struct.Struct("<QQIIII16sHHI")
"""secret, cgroup_id, cgroup_level, scope, summary, hz, comm, port_low, port_high, lane_flows."""
LANE = struct.Struct("<QQQ40x")
"""written, busy, read."""
BLOCK_FLOWS = 128
BLOCK_WORDS = BLOCK_FLOWS + 8
"""From one of a flow's words to the next: `BLOCK_FLOWS`, and what keeps them out of one set of
the cache."""
BLOCK = struct.Struct(f"<{(WORDS + 1) * BLOCK_WORDS * 8}s")
"""words."""
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


def blocks(lane_flows: int) -> int:
    """``struct block``s of a lane with room for so many flows."""
    return -(-lane_flows // BLOCK_FLOWS)


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
    ghost_ns: int = 400_000_000
    """Under the time from the first picture to the second: what stays is told with that one."""
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
