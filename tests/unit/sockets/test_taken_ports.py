"""Who has the local port of a bind, asked of this kernel with real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from hatrace.model.address import packed
from hatrace.model.flow import State
from hatrace.model.topology import Bind
from hatrace.sockets.holders import Finder
from hatrace.sockets.taken_ports import concerns, in_the_way, refused, taken_ports

HERE, ANY, ANY6, OTHER = map(packed, ("127.0.0.1", "0.0.0.0", "::", "127.0.0.2"))


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    """Connected from a port that the kernel chose."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as link,
    ):
        yield link


def port_of(one: socket.socket) -> int:
    port: int = one.getsockname()[1]
    return port


def test_a_source_port_is_in_the_way_of_a_bind(connection: socket.socket) -> None:
    port = port_of(connection)
    wanted = {os.getpid(): [Bind("here", HERE, port), Bind("any", ANY, port)]}
    found = taken_ports(wanted, Finder())
    first, second = (one for one in found if one.pid == os.getpid())
    assert (first.bind.frontend, second.bind.frontend) == ("here", "any")
    assert (first.pid, first.fd) == (os.getpid(), connection.fileno())
    assert (first.local, first.state) == (HERE, State.ESTABLISHED)
    assert first.remote_port == connection.getpeername()[1]
    others = in_the_way([Bind("other", OTHER, port)])
    assert first.inode not in {flow.inode for _, flow in others}


def test_a_listener_and_what_it_accepted_are_not(connection: socket.socket) -> None:
    assert not in_the_way([Bind("here", HERE, connection.getpeername()[1])])


def test_what_a_closed_listener_accepted_is_not() -> None:
    """As sessions of an old worker: SO_REUSEADDR lets HAProxy bind beside them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = port_of(listener)
        link = socket.create_connection(("127.0.0.1", port))
        accepted, _ = listener.accept()
    with link, accepted:
        assert not refused(HERE, port)
        assert not in_the_way([Bind("here", HERE, port)])


def test_which_addresses_stand_in_each_others_way() -> None:
    assert concerns(HERE, HERE)
    assert concerns(ANY, HERE)
    assert concerns(HERE, ANY)
    assert concerns(ANY6, HERE)
    assert not concerns(HERE, OTHER)
    assert not concerns(ANY, packed("2001:db8::1"))
