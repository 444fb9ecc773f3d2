"""The BPF maps: made here, known to the C side by number (``enum map`` of bpf/maps.h).

bcc only compiles; its instructions name a map by its number, and `place` puts the fds in.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import sys
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.kernel import bpf, wire
from hatrace.kernel.walk import KEYS_A_RUN
from hatrace.model.flow import LAYOUT

_HASH, _ARRAY, _PERCPU_ARRAY, _LRU_HASH, _STACK, _RINGBUF = 1, 2, 6, 9, 23, 27
_NO_PREALLOC, _MMAPABLE = 1, 1 << 10
_LD_IMM64, _PSEUDO_MAP_FD = 0x18, 1


class MapId(IntEnum):
    """``enum map`` of bpf/maps.h."""

    FLOWS = 1
    RING = 2
    TARGET_INDEX = 3
    TARGET_TOTALS = 4
    TARGET_OPEN = 5
    WATCH_NS = 6
    CONFIG = 7
    CRITERIA = 8
    LOSSES = 9
    COUNTERS = 10
    TGIDS = 11
    LISTENING = 12
    FREE_TARGETS = 13
    UNIX_PATHS = 14
    UNIX_CALLS = 15
    LOOKS = 16
    TARGET_CALM = 17
    KEYS = 18
    REPORT = 19
    LANES = 20
    LANE_FLOWS = 21
    LAST = 22


_CALM_FLOWS = 16
"""So many flows for one that scans look at: a scan walks as many buckets as there may be of
these, full or empty."""

COUNTERS = 5
(
    COUNTER_TARGETS,
    COUNTER_MATCHED,
    COUNTER_JIFFIES,
    COUNTER_NOW_NS,
    COUNTER_UNLISTED,
) = range(COUNTERS)
"""``enum counter`` of bpf/maps.h."""


COMMON_FLOWS, MOST_FLOWS = 1 << 18, 1 << 20
_ALLOC = re.compile(r"^TCP: .*\balloc (\d+)", re.MULTILINE)
MOST_LANE_FLOWS = 1 << 12


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much the kernel side may hold."""

    flows: int = MOST_FLOWS
    """Open flows, a power of two; memory is taken as they come (about 250 bytes each)."""
    targets: int = 1024
    processes: int = 16_384
    """In scope; forks that ended keep their place until the next inventory."""
    ring_bytes: int = 8 << 20
    """A power of two.  192 bytes a finished flow: 43,690 of them between two drains."""

    @property
    def lane_flows(self) -> int:
        """Room of each CPU's lane, a power of two: all together hardly more than the ring's."""
        room = min(MOST_LANE_FLOWS, self.ring_bytes // LAYOUT.size // possible_cpus())
        return 1 << max(room, 1).bit_length() - 1


def fitting(sockets: int | None) -> Sizes:
    """Room for what may come, on a host with so many TCP sockets now.

    Eight times those, and never less than a busy hour's.
    """
    room = min(max(COMMON_FLOWS, 8 * (sockets or 0)), MOST_FLOWS)
    return Sizes(flows=1 << (room - 1).bit_length())


def sockets_here() -> int | None:
    """The TCP sockets of the whole kernel: ``alloc`` of /proc/net/sockstat (net/ipv4/proc.c)."""
    with contextlib.suppress(OSError):
        if found := _ALLOC.search(Path("/proc/net/sockstat").read_text()):
            return int(found[1])
    return None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a map is; ``key_bytes`` 0 for the ring and the stack."""

    kind: int
    key_bytes: int
    value_bytes: int
    entries: int
    flags: int = 0


def shapes(sizes: Sizes) -> dict[MapId, Shape]:
    lane_blocks = wire.blocks(sizes.lane_flows) * possible_cpus()
    return {
        MapId.FLOWS: Shape(_HASH, 8, LAYOUT.size, sizes.flows, _NO_PREALLOC),
        MapId.RING: Shape(_RINGBUF, 0, 0, sizes.ring_bytes),
        MapId.TARGET_INDEX: Shape(_HASH, wire.TARGET_KEY.size, 4, sizes.targets),
        MapId.TARGET_TOTALS: Shape(_PERCPU_ARRAY, 4, wire.TARGET_TOTAL.size, sizes.targets),
        MapId.TARGET_OPEN: Shape(_ARRAY, 4, 8, sizes.targets, _MMAPABLE),
        MapId.WATCH_NS: Shape(_ARRAY, 4, 8, sizes.targets),
        MapId.CONFIG: Shape(_ARRAY, 4, wire.CONFIG.size, 1),
        MapId.CRITERIA: Shape(_ARRAY, 4, wire.CRITERIA.size, 1),
        MapId.LOSSES: Shape(_PERCPU_ARRAY, 4, wire.LOSSES.size, 1),
        MapId.COUNTERS: Shape(_ARRAY, 4, 8, COUNTERS),
        MapId.TGIDS: Shape(_HASH, 4, wire.PROCESS.size, sizes.processes, _NO_PREALLOC),
        MapId.LISTENING: Shape(_ARRAY, 4, 64, 1024),
        MapId.FREE_TARGETS: Shape(_STACK, 0, 4, sizes.targets),
        MapId.UNIX_PATHS: Shape(_HASH, wire.UNIX_PATH.size, 4, 256),
        MapId.UNIX_CALLS: Shape(_LRU_HASH, wire.UNIX_CALLER.size, wire.UNIX_CALLS.size, 1024),
        MapId.LOOKS: Shape(_HASH, 8, 1, sizes.flows // _CALM_FLOWS, _NO_PREALLOC),
        MapId.TARGET_CALM: Shape(_ARRAY, 4, 8, sizes.targets, _MMAPABLE),
        MapId.KEYS: Shape(_ARRAY, 4, 8, KEYS_A_RUN, _MMAPABLE),
        MapId.REPORT: Shape(_ARRAY, 4, LAYOUT.size, wire.SCAN_LIMIT, _MMAPABLE),
        MapId.LANES: Shape(_ARRAY, 4, wire.LANE.size, possible_cpus(), _MMAPABLE),
        MapId.LANE_FLOWS: Shape(_ARRAY, 4, wire.BLOCK.size, lane_blocks, _MMAPABLE),
        MapId.LAST: Shape(_HASH, 8, LAYOUT.size, max(64, 2 * possible_cpus())),
    }


def create(sizes: Sizes) -> dict[MapId, int]:
    """Make all maps; returns their fds.  Raises EnvironmentLacks."""
    made: dict[MapId, int] = {}
    for number, shape in shapes(sizes).items():
        try:
            made[number] = _create(number.name.lower(), shape)
        except OSError as error:
            close(made)
            raise EnvironmentLacks(
                f"the BPF map of {number.name.lower()} cannot be made",
                f"{error.strerror}; {shape.entries:,} entries of {shape.value_bytes} bytes",
                "before kernel 5.11 BPF memory counts as locked memory: `ulimit -l unlimited`"
                if isinstance(error, PermissionError)
                else "see whether this host has memory left",
            ) from None
    free = bpf.Map(made[MapId.FREE_TARGETS], 0, 4)
    for index in range(sizes.targets - 1, 0, -1):
        free.set(b"", index.to_bytes(4, sys.byteorder))
    return made


def _create(name: str, shape: Shape) -> int:
    attr = struct.pack(
        "<IIIIIII16s",
        shape.kind,
        shape.key_bytes,
        shape.value_bytes,
        shape.entries,
        shape.flags,
        0,
        0,
        f"hat_{name}".encode()[:15],
    )
    return bpf.call(bpf.MAP_CREATE, attr)


def place(code: bytes, fds: dict[MapId, int]) -> bytes:
    """Replace map numbers by fds: ``ld_imm64`` with BPF_PSEUDO_MAP_FD takes two instructions."""
    out, at = bytearray(code), 0
    while at < len(code):
        opcode, registers = code[at], code[at + 1]
        if opcode == _LD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
            number = struct.unpack_from("<i", code, at + 4)[0]
            struct.pack_into("<i", out, at + 4, fds[MapId(number)])
        at += 16 if opcode == _LD_IMM64 else 8
    return bytes(out)


def opened(fds: dict[MapId, int]) -> dict[MapId, bpf.Map]:
    """Every map but the ring, for reading and writing; per-CPU values are as wide as CPUs."""
    cpus = possible_cpus()
    return {
        number: bpf.Map(
            fds[number],
            shape.key_bytes,
            shape.value_bytes * (cpus if shape.kind == _PERCPU_ARRAY else 1),
        )
        for number, shape in shapes(Sizes()).items()
        if number is not MapId.RING
    }


def possible_cpus() -> int:
    """CPUs the kernel keeps per-CPU values for (sysfs: cpu/possible)."""
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")[-1]
    return int(last.split("-")[-1]) + 1


def close(fds: dict[MapId, int]) -> None:
    for fd in fds.values():
        os.close(fd)
