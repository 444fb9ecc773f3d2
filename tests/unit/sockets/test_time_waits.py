"""TIME_WAIT, made with real sockets and counted in this kernel."""

from __future__ import annotations

import os
import socket

import pytest

from hatrace.model.address import packed
from hatrace.model.event import HostCounters
from hatrace.sockets.counters import host_counters
from hatrace.sockets.time_waits import LEAST, Waits, count

ALL_PORTS = range(65_536)


def make_some(number: int, address: str) -> int:
    """So many connections that this side ended first; the port they went to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        for _ in range(number):
            with socket.create_connection(listener.getsockname()[:2]):
                accepted, _ = listener.accept()
            accepted.recv(1)
            accepted.close()
        port: int = listener.getsockname()[1]
        return port


def crowded(**fields: int) -> HostCounters:
    counters = host_counters()
    known = {"at_ns": 0, "netns": counters.netns, "port_low": 1, "port_high": 65_535} | fields
    return HostCounters(**known)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_each_is_counted_where_its_connection_went(address: str) -> None:
    port = make_some(LEAST + 3, address)
    counted, here = count(ALL_PORTS), packed(address)
    if (host_counters().tcp_time_wait or 0) < (host_counters().max_time_wait or 0):
        assert counted[here, port] == LEAST + 3
    assert (here, port) not in count(range(1, 2))


def test_a_crowd_is_told_of_and_its_end_too() -> None:
    waits = Waits()
    assert not list(waits.look(crowded(tcp_time_wait=10), None))
    (said,) = waits.look(crowded(tcp_time_wait=60_000), os.getpid())
    assert all(number >= LEAST for _, _, number in said.rows)
    assert not list(waits.look(crowded(tcp_time_wait=60_000), None)), "not again so soon"
    (over,) = waits.look(crowded(tcp_time_wait=10), None)
    assert over.rows == ()
