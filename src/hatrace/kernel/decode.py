"""Bytes to events: what the maps and the inventory of bpf/ say, by the layouts of wire.py."""

from __future__ import annotations

import socket
import struct
from array import array
from collections.abc import Container, Iterable

from hatrace.kernel import wire
from hatrace.model.event import CommandCalls, Holder, Losses, Target
from hatrace.model.flow import State

_ESTABLISHED = frozenset(
    struct.unpack("=I", struct.pack("=HBB", family, socket.IPPROTO_TCP, State.ESTABLISHED))[0]
    for family in (socket.AF_INET, socket.AF_INET6)
)
"""What family, protocol and state of `wire.HELD` make together."""


def target(index: int, key: bytes, per_cpu: bytes, open_now: int) -> Target:
    """A target from its key, its totals (one ``struct target_total`` for each CPU) and the
    number of its flows that the latest scan counted."""
    addr, pid, netns, port, direction = wire.TARGET_KEY.unpack(key)
    adopted, gone, failed, reset, sent, received, *lifetime = _summed(wire.TARGET_TOTAL, per_cpu)
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
    ring_full, flows_full, targets_full, overwritten = _summed(wire.LOSSES, per_cpu)
    return Losses(at_ns, ring_full, flows_full, targets_full, overwritten, scan_truncated)


def command_calls(path: str, pid: int, calls: bytes) -> CommandCalls:
    """One process's calls of a command-line socket."""
    connects, last_ns, comm = wire.UNIX_CALLS.unpack(calls)
    name = comm.rstrip(b"\0").decode(errors="replace")
    return CommandCalls(path, pid, name, connects, last_ns)


def holders(records: bytes, wanted: Container[int] | None = None) -> Iterable[Holder]:
    """The socket fds of an inventory.

    With ``wanted``, of established TCP connections, which most are, only those of these inodes.
    """
    if wanted is None:
        kept: Iterable[int] = range(len(records) // wire.HELD.size)
    else:
        words = array("I", records)
        kinds, inodes = words[3::4], words[2::4]
        kept = [
            number
            for number, kind in enumerate(kinds)
            if kind not in _ESTABLISHED or inodes[number] in wanted
        ]
    for number in kept:
        pid, fd, inode, _, _, _ = wire.HELD.unpack_from(records, number * wire.HELD.size)
        yield Holder(pid, fd, inode)
