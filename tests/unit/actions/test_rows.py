"""Flows as rows, and as commands for a shell."""

from __future__ import annotations

from hatrace.actions.rows import MOST_LINES, by_hand_all, counted, fds_of, quiet_ns, row
from hatrace.model.event import Holder
from hatrace.model.flow import State
from hatrace.sockets.netlink import namespace_of
from tests import factories as f


def test_the_lowest_fd_stands_for_a_socket() -> None:
    held = [Holder(1, 9, 70), Holder(1, 4, 70), Holder(2, 3, 70)]
    assert fds_of(held) == {(1, 70): 4, (2, 70): 3}


def test_quiet_is_unknown_before_anything_moved() -> None:
    assert quiet_ns(f.flow(moved_ns=f.at(1)), f.at(3)) == 2 * 10**9
    assert quiet_ns(f.flow(moved_ns=0), f.at(3)) is None
    assert quiet_ns(f.flow(state=int(State.SYN_SENT)), f.at(3)) is None


def test_a_row_claims_no_age() -> None:
    made = row(f.flow(pid=7), f.at(5), 12, "why")
    assert (made.pid, made.fd, made.age_s, made.since_s) == (7, 12, None, None)
    assert made.note == "why, quiet for 5 s"
    assert row(f.flow(), f.at(0.5), None).note == ""


def test_by_hand_enters_another_network_namespace() -> None:
    here, there = f.flow(netns=namespace_of() or 0), f.flow(netns=1, pid=812)
    assert by_hand_all([here]).startswith("ss -K src '")
    assert by_hand_all([there]).startswith("nsenter -t 812 -n ss -K src '")
    lines = by_hand_all([here] * (MOST_LINES + 3)).splitlines()
    assert len(lines) == MOST_LINES + 1 and lines[-1] == "# and 3 more"


def test_counted() -> None:
    assert [counted(n, "socket") for n in (0, 1, 2)] == ["no sockets", "1 socket", "2 sockets"]
