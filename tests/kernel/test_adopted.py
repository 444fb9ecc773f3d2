"""What the fd table tells of sockets: whose they are, and which side of a connection."""

from __future__ import annotations

import ctypes
import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass

import pytest

from hatrace.kernel.maps import Sizes
from hatrace.kernel.probes import Probes
from hatrace.kernel.wire import Criteria
from hatrace.model.flow import Flag, Flow, State, flows
from tests.kernel.own import ME, attached

pytestmark = pytest.mark.kernel

MPTCP = 262
"""IPPROTO_MPTCP, include/uapi/linux/in.h."""
HELD = 5


def all_open(probes: Probes, port: int) -> list[Flow]:
    """The flows of who listens and accepts at a port."""
    records, _ = probes.scan(Criteria(everything=True))
    return [flow for flow in flows(records) if flow.lport == port]


def open_by_totals(probes: Probes, port: int) -> int:
    probes.scan(Criteria())
    return sum(target.open for target in probes.targets() if target.port == port)


@dataclass
class Server:
    """Its listener is open as long as somebody needs it; both ends are this process's."""

    listener: socket.socket
    opened: ExitStack

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def clients(self, count: int) -> list[socket.socket]:
        made = [socket.create_connection(self.listener.getsockname()) for _ in range(count)]
        return [self.opened.enter_context(client) for client in made]

    def accept(self, count: int) -> list[socket.socket]:
        return [self.opened.enter_context(self.listener.accept()[0]) for _ in range(count)]


@contextmanager
def serving(protocol: int = 0, port: int = 0) -> Iterator[Server]:
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket(proto=protocol))
        listener.bind(("127.0.0.1", port))
        listener.listen(HELD)
        yield Server(listener, opened)


@contextmanager
def serving_at_a_servers_port() -> Iterator[Server]:
    """Not at an ephemeral one."""
    for port in random.sample(range(20_000, 30_000), 100):
        try:
            with serving(port=port) as server:
                yield server
            return
        except OSError:
            continue
    pytest.fail("no port of a hundred is free")


def has_mptcp() -> bool:
    """Debian's 5.10 has not."""
    with suppress(OSError):
        socket.socket(proto=MPTCP).close()
        return True
    return False


@pytest.fixture
def mptcp() -> Iterator[Server]:
    with serving(MPTCP) as server:
        yield server


def test_a_listener_that_is_gone_leaves_accepted_connections(opened: ExitStack) -> None:
    """An old worker whose bind is gone from the configuration: one target, not one a client."""
    with serving_at_a_servers_port() as server:
        clients, port = server.clients(HELD), server.port
        server.accept(HELD)
        server.listener.close()
        probes = opened.enter_context(closing(attached(ME)))
        assert [flow.flags & Flag.ACCEPTED for flow in all_open(probes, port)] == [
            Flag.ACCEPTED
        ] * HELD
        assert [(row.inbound, row.open) for row in probes.targets() if row.port == port] == [
            (False, HELD),
            (True, HELD),
        ]
        assert len(clients) == HELD


def test_who_accepts_without_asking_is_known_from_the_fd_table(opened: ExitStack) -> None:
    """As libuv does: accept4() without an address, which is no event on the cgroup rung."""
    libc = ctypes.CDLL(None, use_errno=True)
    with serving() as server:
        probes = opened.enter_context(closing(attached(ME)))
        server.clients(HELD)
        for _ in range(HELD):
            fd = libc.accept4(server.listener.fileno(), None, None, 0)
            opened.callback(os.close, fd)
        probes.inventory()
        found = [flow for flow in all_open(probes, server.port) if flow.state != State.LISTEN]
        assert [(flow.pid, flow.comm) for flow in found] == [(ME, found[0].comm)] * HELD
        assert found[0].comm and all(flow.flags & Flag.OWNED for flow in found)
        assert not any(flow.preexisting for flow in found)


def test_what_finds_no_room_is_not_adopted_again_and_again(opened: ExitStack) -> None:
    with serving() as server:
        for _ in range(20):
            server.clients(HELD)
            server.accept(HELD)
        probes = opened.enter_context(closing(attached(ME, sizes=Sizes(flows=64))))
        probes.scan(Criteria())
        adopted = sum(row.adopted for row in probes.targets())
        for _ in range(3):
            probes.inventory()
        probes.scan(Criteria())
        assert sum(row.adopted for row in probes.targets()) == adopted <= 64
        assert probes.losses().flows_full > 0


class TestMptcp:
    """A file of MPTCP holds a TCP socket, its first subflow: that one is traced."""

    __test__ = has_mptcp()

    def test_a_queue_that_was_there_before(self, mptcp: Server, opened: ExitStack) -> None:
        mptcp.clients(HELD - 1)
        probes = opened.enter_context(closing(attached(ME)))
        [found] = [f for f in all_open(probes, mptcp.port) if f.state == State.LISTEN]
        assert (found.unread_bytes, found.unsent_bytes) == (HELD - 1, HELD)
        assert (found.pid, found.lport) == (ME, mptcp.port)

    def test_a_life_of_both_sides(self, mptcp: Server, opened: ExitStack) -> None:
        probes = opened.enter_context(closing(attached(ME)))
        with socket.socket(proto=MPTCP) as client:
            client.connect(mptcp.listener.getsockname())
            with mptcp.listener.accept()[0] as server:
                server.sendall(b"hello")
                assert client.recv(5) == b"hello"
                probes.inventory()
                states = [flow.state for flow in all_open(probes, mptcp.port)]
                assert sorted(states) == [State.ESTABLISHED, State.LISTEN]
                assert open_by_totals(probes, mptcp.port) == 2
        ended: list[Flow] = []
        while len(ended) < 2:
            ended += [f for f in probes.drain() if mptcp.port in (f.lport, f.rport)]
        assert {(flow.pid, flow.closer) for flow in ended} == {(ME, ME)}
        assert open_by_totals(probes, mptcp.port) == 0
        assert probes.losses().total == 0
