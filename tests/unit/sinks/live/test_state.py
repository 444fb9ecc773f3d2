"""Events of the story, folded by the real flow table, as a frame."""

from __future__ import annotations

import math

import pytest

from hatrace.flows.table import Table
from hatrace.model.attribution import Role
from hatrace.model.event import CommandSockets, Cost, UnixSocket
from hatrace.model.finding import Forecast, Severity
from hatrace.pipeline import Verdict
from hatrace.sinks.live.command_sockets import socket_rows
from hatrace.sinks.live.frame import Frame
from hatrace.sinks.live.state import Folder, median_lifetime_s
from tests import factories as make
from tests.unit.sinks import story


@pytest.fixture(scope="module")
def frame() -> Frame:
    return Folder().fold(story.table(120), story.verdict(story.finding()))


def test_header_says_who_and_how(frame: Frame) -> None:
    head = frame.header
    assert (head.host, head.haproxy) == ("lb1", ("2.6.12",))
    assert head.processes == "worker 100, master 99"
    assert (head.rung, head.blind_spots) == ("cgroup", story.BLIND_SPOTS)
    assert head.elapsed_s == 120
    assert head.resident_bytes == 48 << 20
    assert head.watched == "HAProxy 2.6.12 worker 100, master 99, 8 servers, 16 targets"


def test_a_stopped_process_is_said_to_be() -> None:
    world = Table(make.info())
    world.apply(make.processes(make.at(1), make.process(stopped=True)))
    assert Folder().fold(world, Verdict()).header.processes == "worker 100 STOPPED"


def test_cost_is_that_of_now_not_the_average() -> None:
    world, folder = Table(make.info()), Folder()
    world.apply(Cost(make.at(10), 100_000_000, 1, 50_000_000))
    first = folder.fold(world, Verdict()).header
    assert (first.cpu_share, first.bpf_share) == (0.01, 0.005)
    world.apply(Cost(make.at(11), 600_000_000, 1, None))
    second = folder.fold(world, Verdict()).header
    assert second.cpu_share == 0.5
    again = folder.fold(world, Verdict()).header
    assert again.cpu_share == 0.5


def test_bpf_time_that_was_sampled_is_marked_and_needs_two_samples() -> None:
    world, folder = Table(make.info()), Folder()
    shares = []
    for second, bpf_ns in ((1, None), (2, 20_000_000), (3, 35_000_000)):
        measured_ns = None if bpf_ns is None else 1_000_000_000
        world.apply(Cost(make.at(second), 0, 1, bpf_ns, 9, measured_ns))
        head = folder.fold(world, Verdict()).header
        shares.append((head.bpf_share, head.bpf_sampled))
    assert shares == [(None, False), (None, True), (0.015, True)]


def test_held_and_oldest_count_the_suspects_of_a_target(frame: Frame) -> None:
    row = next(row for row in frame.targets if row.held)
    assert (row.role, row.name, row.address) == (Role.CHECK, "be/s1", "192.0.2.1:8000")
    assert (row.open, row.held) == (60, 60)
    assert row.oldest_s == pytest.approx(119.9)
    assert sum(row.held for row in frame.targets) == 60


def test_released_suspects_and_listeners_are_not_held() -> None:
    world = Table(make.info())
    world.apply(make.targets(make.at(5), make.target(open=2)))
    orphan = make.check_flow(1.0, released_ns=make.at(2), state=4)
    world.apply(make.open_scan(make.at(5), orphan, make.listener_flow(target=make.CHECK_TARGET)))
    row = Folder().fold(world, Verdict()).targets[0]
    assert (row.open, row.held, row.oldest_s) == (2, 0, None)


def test_checks_show_expected_and_observed_rhythm(frame: Frame) -> None:
    by_server = {row.server: row for row in frame.checks}
    leaking, healthy = by_server["be/s1"], by_server["be/s2"]
    assert leaking.held == 60 > leaking.healthy_held
    assert (leaking.expected_s, leaking.expected_name) == (2.0, "inter")
    assert healthy.observed_s == pytest.approx(2.0)
    assert (healthy.held, healthy.last_took_s) == (0, pytest.approx(0.002, abs=1e-5))


def test_the_worst_finding_comes_first_then_the_most_pressing() -> None:
    far, near = Forecast("a", 1, 9, 900.0), Forecast("b", 1, 9, 9.0)
    findings = [
        story.finding(subject="notice", severity=Severity.NOTICE),
        story.finding(subject="far", forecast=far),
        story.finding(subject="never", forecast=None),
        story.finding(subject="near", forecast=near),
    ]
    folded = Folder().fold(Table(make.info()), Verdict(tuple(findings)))
    assert [one.subject for one in folded.findings] == ["near", "far", "never", "notice"]


@pytest.mark.parametrize(
    ("lifetime", "median_s"),
    [
        ((0,) * 16, None),
        ((0, 0, 5) + (0,) * 13, 16e-6),
        ((3, 0, 0, 2) + (0,) * 12, 1e-6),
        ((2, 0, 0, 3) + (0,) * 12, 64e-6),
        ((0,) * 15 + (1,), math.inf),
    ],
)
def test_median_lifetime(lifetime: tuple[int, ...], median_s: float | None) -> None:
    assert median_lifetime_s(lifetime) == median_s


def test_command_socket_counts_slots_clients_and_who_waits() -> None:
    (row,) = socket_rows(make.master_connections(make.at(1), clients=3, orphaned=2, waiting=4))
    assert (row.used, row.limit, row.waiting, row.master) == (5, 10, 4, True)
    assert row.holders == ("python3 agent.py (pid 500) x3", "client has left x2")


def test_command_socket_is_found_by_either_of_its_names() -> None:
    """Without an inode, the kernel's temporary name and the configured one both count."""
    for name in ("/run/haproxy-master.sock", "/run/haproxy-master.sock.99.tmp"):
        unix = (UnixSocket(5, 10, name, 0, 0, 10), UnixSocket(6, 1, name, 0, 0, 0))
        seen = CommandSockets(make.at(1), (make.master_socket(inode=None),), unix, (), {})
        (row,) = socket_rows(seen)
        assert row.used == 1
