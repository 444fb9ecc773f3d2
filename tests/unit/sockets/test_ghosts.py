"""Our own sockets are looked at without rights; others' in tests/kernel."""

from __future__ import annotations

import os
import socket

from hatrace.model.event import Holder
from hatrace.model.flow import Condition, State
from hatrace.sockets.ghosts import INODE_ID, ghosts, tcp_family
from hatrace.sockets.tcp_diag import Surroundings

ME = os.getpid()
NOW = 10**12


def holder(of: socket.socket) -> Holder:
    return Holder(ME, of.fileno(), os.fstat(of.fileno()).st_ino)


def test_tcp_is_told_from_the_rest_without_opening_anything() -> None:
    with socket.socket() as four, socket.socket(socket.AF_INET6) as six:
        assert tcp_family(holder(four)) == socket.AF_INET
        assert tcp_family(holder(six)) == socket.AF_INET6
    with socket.socket(socket.AF_UNIX) as unix, socket.socket(type=socket.SOCK_DGRAM) as udp:
        assert tcp_family(holder(unix)) is None and tcp_family(holder(udp)) is None
    assert tcp_family(Holder(ME, 1 << 20, 1)) is None


def test_an_unconnected_socket_lent_and_not_lent() -> None:
    around = Surroundings(NOW, netns=5)
    with socket.socket() as one:
        [lent] = ghosts([holder(one)], around)
        [seen] = ghosts([holder(one)], around, lend=False)
    assert (seen.id, seen.cookie) == (INODE_ID | lent.inode, 0)
    assert lent.id == lent.cookie and not lent.id & INODE_ID
    for flow in (lent, seen):
        assert (flow.pid, flow.netns, flow.state) == (ME, 5, State.CLOSE)
        assert flow.condition(NOW) is Condition.UNCONNECTED and flow.preexisting
        assert flow.raddr == bytes(16)


def test_what_is_gone_or_replaced_is_left_out() -> None:
    with socket.socket() as one:
        stale = holder(one)
        wrong = Holder(ME, stale.fd, stale.inode + 1)
        assert list(ghosts([wrong], Surroundings(NOW))) == []
    assert list(ghosts([stale], Surroundings(NOW))) == []
