"""master-slots: ten, and who has them."""

from __future__ import annotations

import pytest

from hatrace.checks import master_slots
from hatrace.model.event import CommandSockets, Holder, UnixSocket
from hatrace.model.finding import Severity
from hatrace.model.topology import CommandSocket, Level
from tests.unit.checks.setups import only, process, setup, unasked

SOCKET = CommandSocket("/run/m.sock", True, 812, 1000, 10, Level.ADMIN)
NAME = "/run/m.sock.812.tmp"


def seen(clients: int, gone: int = 0, waiting: int = 0) -> CommandSockets:
    """``clients`` of process 5, ``gone`` whose client has closed."""
    unix = [UnixSocket(1000, 10, NAME, 0, waiting, 10)]
    unix += [UnixSocket(2000 + n, 1, NAME, 3000 + n, 0, 0) for n in range(clients)]
    unix += [UnixSocket(3000 + n, 1, "", 2000 + n, 0, 0) for n in range(clients)]
    unix += [UnixSocket(4000 + n, 1, NAME, 0, 0, 0) for n in range(gone)]
    held = tuple(Holder(5, n, 3000 + n) for n in range(clients))
    return CommandSockets(0, (SOCKET,), tuple(unix), held, {5: "socat -"})


@pytest.mark.parametrize(
    ("clients", "gone", "waiting", "severity"),
    [
        (0, 0, 0, Severity.NOTICE),
        (4, 0, 0, Severity.NOTICE),
        (4, 1, 0, Severity.WARNING),
        (9, 0, 0, Severity.CRITICAL),
        (0, 0, 1, Severity.CRITICAL),
    ],
)
def test_how_much_it_hurts(clients: int, gone: int, waiting: int, severity: Severity) -> None:
    told = setup("", master_sockets=(SOCKET,), seen=seen(clients, gone, waiting))
    found = only(master_slots.findings(told))
    assert (found.severity, found.count) == (severity, clients + gone)


def test_who_has_them() -> None:
    told = setup("", master_sockets=(SOCKET,), seen=seen(2, 3))
    found = only(master_slots.findings(told))
    assert [(one.pid, one.comm, one.note) for one in found.evidence] == [
        (5, "socat -", "2 connections"),
        (None, "", "3 connections: the client has closed"),
    ]
    assert found.next_steps[-1].command == "kill -USR2 812"


def test_a_maxconn_on_s_is_no_limit() -> None:
    words = ("haproxy", "-W", "-S", "/run/m.sock,maxconn,50", "-f", "/etc/h.cfg")
    told = setup("", master_sockets=(SOCKET,), seen=seen(0), process=process(command_line=words))
    assert "changes the accept queue only" in only(master_slots.findings(told)).cause


def test_what_could_not_be_seen_is_said() -> None:
    assert "/run/m.sock" in unasked(master_slots.findings(setup("", master_sockets=(SOCKET,)))).why


def test_without_a_master_there_is_nothing_to_say() -> None:
    assert list(master_slots.findings(setup(""))) == []
