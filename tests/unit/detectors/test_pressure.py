"""port-pressure and orphan-storm: limits of the host, and bursts that are none."""

from __future__ import annotations

from hatrace.capture.redact import Redactor
from hatrace.detectors.orphan_storm import OrphanStorm
from hatrace.detectors.port_pressure import PortPressure
from hatrace.flows.table import Table
from hatrace.model.event import Target, TimeWaits
from hatrace.model.finding import Finding, Severity
from hatrace.model.flow import State
from hatrace.model.topology import Endpoint, Kind
from tests import factories as make
from tests.unit.detectors.worlds import ask, nothing_known, table, text_of

NETNS = 4026531840


def test_ports_that_run_out_are_named_with_their_owner() -> None:
    world = table(make.host(make.at(0), port_low=40_000, port_high=40_999))
    detector = PortPressure(nothing_known)
    ask(detector, world, 1, make.targets(make.at(1), make.data_target(open=880)))
    (finding,) = ask(detector, world, 3, make.targets(make.at(3), make.data_target(open=900)))
    assert finding.severity is Severity.WARNING
    assert "900 of 1,000 source ports towards 192.0.2.1:443 (be/s1)" in finding.claim
    assert "pid 100" in finding.claim
    assert finding.growth is not None and finding.growth.per_minute == 600
    assert finding.forecast is not None and finding.forecast.seconds_left == 10


def test_ports_of_several_processes_to_one_address_add_up() -> None:
    world = table(make.host(make.at(0), port_low=40_000, port_high=40_999))
    rows = [make.data_target(0, open=400), make.data_target(1, pid=101, open=590)]
    (finding,) = ask(PortPressure(nothing_known), world, 1, make.targets(make.at(1), *rows))
    assert finding.severity is Severity.CRITICAL
    assert [one.pid for one in finding.evidence] == [101, 100]


def test_each_source_address_has_ports_of_its_own() -> None:
    world = table(make.host(make.at(0), port_low=40_000, port_high=40_099))
    world.apply(make.servers(make.at(0), make.server("s1"), make.server("s2")))
    sources = [Endpoint("source", f"be/s{n}", make.address(f"192.0.2.20{n}"), 0) for n in (1, 2)]
    world.apply(make.configured(make.at(0), endpoints=tuple(sources)))
    detector = PortPressure(nothing_known)
    assert not ask(detector, world, 1, make.targets(make.at(1), make.data_target(open=110)))
    (finding,) = ask(detector, world, 2, make.targets(make.at(2), make.data_target(open=190)))
    assert "190 of 200 source ports" in finding.claim
    clients = Endpoint("source", "be/s1", make.address("0.0.0.0"), 0)
    world.apply(make.configured(make.at(3), endpoints=(clients,)))
    assert not ask(detector, world, 3)


def from_one_address() -> Table:
    """100 ports, and one server whose connections come from an address of their own."""
    source = Endpoint("source", "be/s1", make.address("192.0.2.201"), 0)
    return table(
        make.host(make.at(0), port_low=40_000, port_high=40_099),
        make.configured(make.at(0), endpoints=(source,)),
    )


def all_taken(world: Table, *others: Target) -> list[Finding]:
    """All ports of one source address by the worker, beside what others have."""
    rows = make.targets(make.at(1), make.data_target(open=100), *others)
    return ask(PortPressure(nothing_known), world, 1, rows)


def test_a_process_that_has_ended_has_no_source() -> None:
    (finding,) = all_taken(from_one_address(), make.data_target(8, pid=555, born=9, gone=9))
    assert "100 of 100 source ports" in finding.claim
    assert "of pid 100 (haproxy)" in finding.claim and "555" not in finding.claim


def test_an_old_worker_has_the_sources_of_the_others() -> None:
    world = from_one_address()
    old = make.process(90, Kind.OLD_WORKER)
    world.apply(make.processes(make.at(0), old, make.process()))
    (finding,) = all_taken(world, make.data_target(8, pid=90, open=1))
    assert "101 of 100 source ports" in finding.claim


def test_another_program_has_the_source_that_the_kernel_chooses() -> None:
    world = from_one_address()
    world.apply(make.holders(make.at(0), p700="curl"))
    assert not all_taken(world, make.data_target(8, pid=700, open=1))


def test_sources_are_not_known_before_the_servers_are() -> None:
    world = from_one_address()
    world.apply(make.processes(make.at(0), make.process(101)))
    source = Endpoint("source", "be/s1", make.address("192.0.2.201"), 0)
    world.apply(make.configured(make.at(0), pid=101, endpoints=(source,)))
    rows = make.targets(make.at(1), make.data_target(pid=101, open=100))
    assert not ask(PortPressure(nothing_known), world, 1, rows)
    world.apply(make.servers(make.at(2), pid=101))
    assert ask(PortPressure(nothing_known), world, 2)


def test_a_redacted_session_counts_the_same_sources() -> None:
    servers = make.servers(make.at(0), make.server("s1"), make.server("s2"))
    sources = [Endpoint("source", f"be/s{n}", make.address(f"192.0.2.20{n}"), 0) for n in (1, 2)]
    events = (
        servers,
        make.configured(make.at(0), endpoints=tuple(sources)),
        make.host(make.at(0), port_low=40_000, port_high=40_099),
        make.targets(make.at(1), make.data_target(open=190)),
    )
    for given in (events, Redactor().events(events)):
        (finding,) = ask(PortPressure(nothing_known), table(), 1, *given)
        assert finding.claim.startswith("190 of 200 source ports")


def test_clients_take_no_ports_of_ours() -> None:
    world = table(make.host(make.at(0), port_low=40_000, port_high=40_099))
    rows = make.targets(make.at(1), make.client_target(open=5_000), make.data_target(open=60))
    assert not ask(PortPressure(nothing_known), world, 1, rows)


def test_each_network_namespace_has_its_own_range() -> None:
    own, other = 4026531840, 4026532999
    world = table(make.host(make.at(0), netns=own))
    world.apply(make.host(make.at(0), netns=other, port_low=33_000, port_high=33_099))
    assert world.host is not None
    assert world.host.netns == own
    rows = make.targets(
        make.at(1), make.data_target(open=90), make.data_target(6, open=90, netns=other)
    )
    (finding,) = ask(PortPressure(nothing_known), world, 1, rows)
    assert "90 of 100 source ports" in finding.claim


def test_the_steps_are_for_the_network_namespace_of_the_process() -> None:
    world = table(
        make.processes(make.at(0), make.process(other_network=True)),
        make.host(make.at(0), port_low=40_000, port_high=40_099),
    )
    rows = make.targets(make.at(1), make.data_target(open=90))
    (finding,) = ask(PortPressure(nothing_known), world, 1, rows)
    commands = [step.command for step in (*finding.next_steps, *finding.verify) if step.command]
    assert all(command.startswith("nsenter -t 100 -n ") for command in commands)


def busy(*, tw_reuse: int, address: str = make.SERVER) -> Table:
    """100 ports; 10 connections to the server are open, 80 in TIME_WAIT."""
    world = table(
        make.host(make.at(0), port_low=40_000, port_high=40_099, netns=NETNS, tw_reuse=tw_reuse)
    )
    target = make.data_target(open=10, address=make.address(address))
    world.apply(make.targets(make.at(1), target))
    row = (make.address(address), make.SERVICE_PORT, 80)
    world.apply(TimeWaits(make.at(1), NETNS, (row,)))
    return world


def test_ports_in_time_wait_are_taken_too() -> None:
    (finding,) = ask(PortPressure(nothing_known), busy(tw_reuse=2), 1)
    assert finding.severity is Severity.WARNING
    assert "90 of 100 source ports towards 192.0.2.1:443 (be/s1) are taken" in finding.claim
    assert "80 by connections in TIME_WAIT, the others by open ones: 10 of pid" in finding.claim
    assert "this side ends them first" in finding.cause
    assert finding.ruled_out == ("connections that stay: only 10 are open",)
    assert "net.ipv4.tcp_tw_reuse=1" in text_of(finding)
    assert finding.evidence[-1].state == "TIME_WAIT"


def test_ports_of_connections_that_nobody_saw_open() -> None:
    """All came and went before hatrace, or between two looks of the netlink rung."""
    world = table(
        make.processes(make.at(0), make.process(netns=NETNS)),
        make.host(make.at(0), port_low=40_000, port_high=40_099, netns=NETNS),
    )
    detector, address = PortPressure(nothing_known), make.address(make.SERVER)
    elsewhere = (make.address("198.51.100.1"), 443, 90)
    rows = ((address, make.SERVICE_PORT, 90), elsewhere)
    (finding,) = ask(detector, world, 1, TimeWaits(make.at(1), NETNS, rows))
    assert (finding.count, finding.preexisting) == (90, 90)
    assert "90 of 100 source ports towards 192.0.2.1:443 (be/s1) are taken, all" in finding.claim
    assert "no owner: pid 100 (haproxy) has a server there" in finding.claim
    row = (address, make.SERVICE_PORT, 80)
    (finding,) = ask(detector, world, 30, TimeWaits(make.at(30), NETNS, (row,)))
    assert (finding.count, finding.preexisting) == (80, 80)
    (finding,) = ask(detector, world, 61)
    assert (finding.count, finding.preexisting) == (80, 0)


def test_ports_that_may_be_reused_in_time_wait_are_not() -> None:
    assert not ask(PortPressure(nothing_known), busy(tw_reuse=1), 1)
    assert not ask(PortPressure(nothing_known), busy(tw_reuse=2, address="127.0.0.9"), 1)
    assert ask(PortPressure(nothing_known), busy(tw_reuse=0, address="127.0.0.9"), 1)


def test_a_minute_of_time_wait_is_all_there_is() -> None:
    world, detector = busy(tw_reuse=2), PortPressure(nothing_known)
    ask(detector, world, 1)
    row = (make.address(make.SERVER), make.SERVICE_PORT, 81)
    (finding,) = ask(detector, world, 11, TimeWaits(make.at(11), NETNS, (row,)))
    assert finding.forecast is not None
    assert finding.forecast.seconds_left is None
    assert "as many come as go" in finding.forecast.arithmetic


def test_orphans_near_the_limit_are_named() -> None:
    world, detector = table(), OrphanStorm(nothing_known)
    for second in range(4):
        ask(detector, world, second, make.host(make.at(second), tcp_orphan=33_000 + 60 * second))
    (finding,) = ask(detector, world, 4, make.host(make.at(4), tcp_orphan=33_240))
    assert finding.severity is Severity.WARNING
    assert "33,240 orphaned sockets of at most 65,536" in finding.claim
    assert finding.growth is not None and finding.growth.per_minute == 3_600


def test_a_moment_of_orphans_is_silent() -> None:
    world, detector = table(), OrphanStorm(nothing_known)
    assert not ask(detector, world, 1, make.host(make.at(1), tcp_orphan=60_000))
    assert not ask(detector, world, 2, make.host(make.at(2), tcp_orphan=10))
    assert not ask(detector, world, 9, make.host(make.at(9), tcp_orphan=60_000))


def test_a_storm_is_named_before_it_has_reached_a_quarter_of_the_limit() -> None:
    world, detector = table(), OrphanStorm(nothing_known)
    orphan = make.client_flow(
        released_ns=make.at(1), closer=make.WORKER, state=int(State.FIN_WAIT1), unsent_bytes=5_949
    )
    world.apply(make.open_scan(make.at(1), orphan))
    for second in range(10):
        counters = make.host(make.at(second), tcp_orphan=700 + 150 * second)
        found = ask(detector, world, second, counters)
        assert bool(found) == (second >= 6)
    assert found[0].severity is Severity.WARNING
    assert "1 are listed: let go by pid 100 (haproxy), towards 198.51.100.7" in found[0].claim
    assert found[0].evidence[0].note == "5,949 bytes that its peer does not take"
    assert found[0].growth is not None
    assert found[0].growth.per_minute == 9_000
    assert found[0].forecast is not None
    assert found[0].forecast.seconds_left is None
    assert found[0].forecast.arithmetic.endswith("after at most 340 s: up to 53,050 at once")


def test_a_burst_that_is_over_is_no_storm() -> None:
    world, detector = table(), OrphanStorm(nothing_known)
    for second, orphans in enumerate((700, 900, 1_100, 1_300, *[1_500] * 30)):
        counters = make.host(make.at(second), tcp_orphan=orphans)
        assert not ask(detector, world, second, counters)


def test_time_wait_is_no_trouble() -> None:
    world, detector = table(), OrphanStorm(nothing_known)
    for second in range(60):
        full = make.host(make.at(second), tcp_time_wait=65_536)
        assert not ask(detector, world, second, full)


def test_unreadable_counters_are_no_finding() -> None:
    world = table(make.host(make.at(0), tcp_orphan=None, port_low=None))
    rows = make.targets(make.at(1), make.data_target(open=60_000))
    assert not ask(OrphanStorm(nothing_known), world, 9)
    assert not ask(PortPressure(nothing_known), world, 9, rows)
