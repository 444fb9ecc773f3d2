"""/proc's counters, as kernels print them."""

from __future__ import annotations

import os

from hatrace.sockets.counters import host_counters, netstat, sockstat

SOCKSTAT = """sockets: used 17
TCP: inuse 4 orphan 1 tw 20 alloc 9 mem 210
UDP: inuse 0 mem 0
FRAG: inuse 0 memory 0
"""
NETSTAT = """TcpExt: SyncookiesSent ListenOverflows ListenDrops
TcpExt: 0 7 8
IpExt: InNoRoutes InTruncatedPkts
IpExt: 1 2
"""


def test_sockstat() -> None:
    tcp = sockstat(SOCKSTAT)["TCP"]
    assert tcp == {"inuse": 4, "orphan": 1, "tw": 20, "alloc": 9, "mem": 210}
    assert sockstat("") == {} and sockstat("TCP: inuse")["TCP"] == {}


def test_netstat() -> None:
    assert netstat(NETSTAT)["TcpExt"]["ListenOverflows"] == 7
    assert netstat(NETSTAT)["IpExt"] == {"InNoRoutes": 1, "InTruncatedPkts": 2}
    assert netstat("TcpExt: A\n") == {}


def test_this_host() -> None:
    seen = host_counters(os.getpid())
    assert seen.tcp_inuse is not None and seen.tcp_alloc is not None
    assert seen.port_low and seen.port_high and seen.port_low < seen.port_high
    assert seen.file_used and seen.file_max and seen.file_used < seen.file_max
    assert seen.listen_overflows is not None and seen.max_orphans and seen.max_time_wait


def test_unreadable_is_none_and_not_zero() -> None:
    seen = host_counters(2**22 - 1)
    assert seen.tcp_inuse is None and seen.tcp_alloc is None and seen.listen_overflows is None
    assert seen.port_low is None and seen.max_time_wait is None
    assert seen.file_max, "one for the whole host"
