"""TIME_WAIT by remote address and port: who takes local ports after the connections are over.

Read where there are so many that ports may run short, and then seldom: 1 µs of CPU for each.
Nobody holds them, so sock_diag is all there is to ask.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from hatrace.errors import HatraceError
from hatrace.model.address import V4_PREFIX
from hatrace.model.event import HostCounters, TimeWaits
from hatrace.model.flow import State
from hatrace.sockets.netlink import HEADER, Diag, within
from hatrace.sockets.tcp_diag import REQUEST

MANY = 0.5
"""Of the range's ports: with fewer in TIME_WAIT, to all addresses together, none runs short."""
EVERY_S = 5.0
SHARE = 0.005
"""Of one CPU, at most."""
ROWS = 32
LEAST = 16
"""To one address and port; fewer are no crowd."""
_STATES = 1 << State.TIME_WAIT


@dataclass(slots=True)
class Waits:
    """Looks at the namespaces that are crowded, each when its time has come."""

    _due_s: dict[int, float] = field(default_factory=dict)
    """Of those where something was said last: monotonic time."""

    def look(self, counters: HostCounters, pid: int | None) -> Iterator[TimeWaits]:
        """What to say of the namespace of ``counters`` (and of ``pid``; None: our own)."""
        netns, ports = counters.netns, _ports(counters)
        if netns is None or not ports:
            return
        if (counters.tcp_time_wait or 0) < MANY * len(ports):
            if self._due_s.pop(netns, None) is not None:
                yield TimeWaits(time.monotonic_ns(), netns, ())
            return
        now_s = time.monotonic()
        if now_s < self._due_s.get(netns, 0.0):
            return
        try:
            counted, cpu_s = within(pid, lambda: _timed_count(ports))
        except HatraceError:
            counted, cpu_s = Counter(), 0.0
        self._due_s[netns] = now_s + max(EVERY_S, cpu_s / SHARE)
        rows = tuple((*where, n) for where, n in counted.most_common(ROWS) if n >= LEAST)
        yield TimeWaits(time.monotonic_ns(), netns, rows)


def _timed_count(ports: range) -> tuple[Counter[tuple[bytes, int]], float]:
    """With the CPU time of this thread, in seconds: waiting for a busy machine costs nothing."""
    began_s = time.thread_time()
    return count(ports), time.thread_time() - began_s


def _ports(counters: HostCounters) -> range:
    if counters.port_low is None or counters.port_high is None:
        return range(0)
    return range(counters.port_low, counters.port_high + 1)


def count(ports: range) -> Counter[tuple[bytes, int]]:
    """In the network namespace that this thread is in; raises netlink.Refused."""
    found: Counter[tuple[bytes, int]] = Counter()
    with Diag() as diag:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = REQUEST.pack(family, socket.IPPROTO_TCP, 0, _STATES, bytes(48))
            raw: Counter[tuple[bytes, int]] = Counter()
            for datagram, size in diag.runs(request, "cannot list TCP sockets"):
                ends = _ends(size).iter_unpack(datagram)
                raw.update((remote, rport) for lport, rport, remote in ends if lport in ports)
            for (remote, rport), number in raw.items():
                whole = V4_PREFIX + remote[:4] if family == socket.AF_INET else remote
                found[whole, rport] += number
    return found


@cache
def _ends(size: int) -> struct.Struct:
    """Local and remote port, remote address of a message of so many bytes with its header:
    struct inet_diag_msg, include/uapi/linux/inet_diag.h; network byte order."""
    known = struct.Struct(f">{HEADER.size}x4xHH16x16s")
    return struct.Struct(f"{known.format}{size - known.size}x")
