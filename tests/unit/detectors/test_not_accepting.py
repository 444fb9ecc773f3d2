"""not-accepting: a queue that never shrinks, told from one that a busy process drains."""

from __future__ import annotations

from collections.abc import Sequence

from hatrace.detectors.listeners import slots_taken
from hatrace.detectors.not_accepting import NotAccepting
from hatrace.flows.table import Table
from hatrace.model.event import CommandSockets, Target
from hatrace.model.finding import Confidence, Finding, KnownBug, Severity
from hatrace.model.flow import Flow
from hatrace.model.topology import Bind, Kind
from tests import factories as make
from tests.unit.detectors.worlds import ask, nothing_known, table, text_of

BACKLOG = 64
GROWS = tuple(range(1, 12))
LISTENER = make.listener_flow(pid=700, comm="beam.smp", lport=8000, laddr="192.0.2.1")


def queue(length: int, backlog: int = BACKLOG, listener: Flow = LISTENER) -> Flow:
    return listener._replace(unread_bytes=length, unsent_bytes=backlog)


def watch(
    lengths: Sequence[int], world: Table | None = None, detector: NotAccepting | None = None
) -> list[Finding]:
    world, detector = world or table(), detector or NotAccepting(nothing_known)
    found: list[Finding] = []
    for second, length in enumerate(lengths):
        found = ask(detector, world, second, make.open_scan(make.at(second), queue(length)))
    return found


def test_a_queue_that_only_grows_is_named() -> None:
    (finding,) = watch(GROWS)
    assert finding.severity is Severity.WARNING
    assert finding.confidence is Confidence.CERTAIN
    assert "pid 700 (beam.smp) does not accept at 192.0.2.1:8000" in finding.claim
    assert "11 connections wait in its queue of 64" in finding.claim
    assert finding.growth is not None and finding.growth.per_minute == 60
    assert finding.forecast is not None and finding.forecast.seconds_left == 54


def test_a_full_one_is_critical_within_two_seconds() -> None:
    (finding,) = watch([65, 65, 65])
    assert finding.severity is Severity.CRITICAL
    assert "it is full" in finding.claim


def test_a_full_one_whose_checks_time_out_has_been_so_for_longer() -> None:
    assert not watch([65, 65])
    (finding,) = watch([65, 67], checked("L4TOUT"))
    assert (finding.count, finding.preexisting) == (67, 65)


def test_what_fills_while_hatrace_watches_is_new() -> None:
    (finding,) = watch([0, 0, 0, 65, 65, 65])
    assert (finding.count, finding.preexisting) == (65, 0)


def test_a_busy_process_is_silent() -> None:
    assert not watch([3, 9, 2, 8, 1, 7, 3, 12, 1, 5, 9, 2] * 5)


def test_an_empty_queue_is_silent() -> None:
    assert not watch([0] * 20)


def test_it_resolves_when_somebody_accepts() -> None:
    assert not watch([*GROWS, 5])


def test_the_checks_that_go_there_are_evidence() -> None:
    (finding,) = watch(GROWS)
    checks = [one for one in finding.evidence if one.what == "check"]
    assert [one.note for one in checks] == ["HAProxy's check of be/s1"]


def test_a_listener_handed_over_is_its_holders() -> None:
    world = table(make.holders(make.at(0), (make.WORKER, 6, LISTENER.inode)))
    (finding,) = watch(GROWS, world)
    assert "pid 100" in finding.claim


def test_a_stopped_process_is_the_cause() -> None:
    world = table(make.processes(make.at(0), make.process(700, stopped=True)))
    (finding,) = watch(GROWS, world)
    assert "is stopped" in finding.cause
    assert "kill -CONT 700" in text_of(finding)


def drift(version: str, slug: str) -> Sequence[KnownBug]:
    return [KnownBug("commit f1064c7382e1", "counts of listeners drift", "3.2.0")]


def test_a_bug_of_haproxys_listeners_needs_haproxy_with_room() -> None:
    detector = NotAccepting(drift)
    (other,) = watch(GROWS, detector=detector)
    assert other.known_bug is None
    world = table(
        make.holders(make.at(0), (make.WORKER, 6, LISTENER.inode)),
        make.info_sample(make.at(0), CurrConns="3", Maxconn="2000"),
    )
    (finding,) = watch(GROWS, world, NotAccepting(drift))
    assert finding.known_bug is not None


def checked(status: str) -> Table:
    return table(make.servers(make.at(0), make.server(check_status=status)))


def test_it_is_named_sooner_where_checks_time_out() -> None:
    assert not watch(GROWS[:6])
    (finding,) = watch(GROWS[:6], checked("L7TOUT"))
    assert "busy with something else" in finding.cause
    assert not watch(GROWS[:6], checked("L4CON"))


def test_a_pause_that_it_made_before_is_expected_again() -> None:
    detector, world = NotAccepting(nothing_known), table()
    pause = [1, *[2] * 8, 0]
    assert not watch([*pause, *[3] * 16], world, detector)
    assert watch([*pause, *[3] * 30], table(), NotAccepting(nothing_known))


def at_haproxy(accepted: int, *lengths: int, **info: str) -> list[Finding]:
    """HAProxy's own listener with a `maxconn` of 10, and so many clients besides the queue."""
    detector = NotAccepting(nothing_known)
    world = table(
        make.configured(make.at(0), Bind("fe", LISTENER.laddr, 8000, "tcp", limit=10)),
        make.info_sample(make.at(0), **({"CurrConns": "3", "Maxconn": "2000"} | info)),
        make.holders(make.at(0), (make.WORKER, 6, LISTENER.inode)),
    )
    found: list[Finding] = []
    for second, length in enumerate(lengths):
        row = make.target(
            7, address=LISTENER.laddr, port=8000, inbound=True, open=accepted + length
        )
        scan = make.open_scan(make.at(second), queue(length))
        found = ask(detector, world, second, make.targets(make.at(second), row), scan)
    return found


def test_a_maxconn_that_is_reached_is_no_fault() -> None:
    assert not at_haproxy(10, *GROWS)
    assert not at_haproxy(4, *GROWS, CurrConns="2000")
    (drifted,) = at_haproxy(4, *GROWS)
    assert "pid 100" in drifted.claim


def served(*looks: tuple[int, int], others: Sequence[Flow] = (), **info: object) -> list[Finding]:
    """At each look so many wait in the queue, and so many have come in all."""
    detector, world = NotAccepting(nothing_known), table(**info)
    found: list[Finding] = []
    for second, (length, born) in enumerate(looks):
        row = make.target(
            7, address=LISTENER.laddr, port=8000, pid=0, inbound=True, born=born, gone=born - length
        )
        scan = make.open_scan(make.at(second), queue(length), *others)
        found = ask(detector, world, second, make.targets(make.at(second), row), scan)
    return found


def test_a_full_queue_that_is_served_is_an_overload() -> None:
    assert not served(*((65, 100 + 5 * second) for second in range(30)))
    (stuck,) = served(*((65, 100) for _ in range(30)))
    assert "does not accept" in stuck.claim


def test_one_that_grows_less_than_comes_is_served() -> None:
    assert not served(*((1 + second, 5 * second) for second in range(30)))
    assert served(*((1 + second, 1 + second) for second in range(30)))


def test_on_the_netlink_rung_those_that_came_are_those_that_were_accepted() -> None:
    looks = [(5 * second, 4 * second) for second in range(1, 12)]
    assert not served(*looks, rung="netlink")
    assert served(*looks)


def test_who_takes_so_few_that_none_waits_for_it_does_not_accept() -> None:
    assert served(*((65, 100 + second // 20) for second in range(30)))


def test_connections_taken_by_another_listener_of_the_port_are_none_of_this() -> None:
    other = queue(0, listener=LISTENER._replace(pid=701, inode=9, id=9))
    assert served(*((65, 100 + 5 * second) for second in range(30)), others=[other])


def test_an_end_that_is_counted_twice_for_a_look_is_no_accepted_connection() -> None:
    looks = [(65, 100)] * 30
    assert served(*looks[:20], (65, 165)), "it stays named"
    assert served(*looks[:20], (65, 165), *looks[:3]), "no pause of 20 s was learned"
    assert not served(*looks[:2], (65, 165)), "nothing is named by such a look"


def at_master(
    *rows: Target, path: str = "192.0.2.1:8000", waiting: int = 4, seconds: int = 20, **info: object
) -> list[Finding]:
    """A master's TCP socket of ten slots, with these totals at its address."""
    socket = make.master_socket(path=path, inode=None)
    known = CommandSockets(make.at(0), (socket,), (), (), {})
    world, detector = table(known, **info), NotAccepting(drift)
    found: list[Finding] = []
    for second in range(seconds):
        scan = make.open_scan(make.at(second), queue(waiting))
        found = ask(detector, world, second, make.targets(make.at(second), *rows), scan)
    return found


def callers(**totals: object) -> Target:
    place = {"address": LISTENER.laddr, "port": 8000, "pid": 0, "inbound": True}
    return make.target(7, **(place | totals))


def is_of_slots(finding: Finding) -> bool:
    return "all 10 slots of the master socket" in finding.cause


def test_the_slots_of_a_command_line_socket_over_tcp_are_the_cause() -> None:
    (found,) = at_master(callers(open=14))
    assert "all 10 slots of the master socket 192.0.2.1:8000 are taken" in found.cause
    assert "stuck" not in text_of(found) and "strace" not in text_of(found)
    (found,) = at_master(callers(open=13))
    assert not is_of_slots(found)


def test_slots_that_were_taken_before_hatrace_came() -> None:
    """Who waited in the queue by then is in no fd table, and not counted."""
    (found,) = at_master(callers(adopted=10))
    assert is_of_slots(found)
    (found,) = at_master(callers(adopted=10, born=2), waiting=6)
    assert is_of_slots(found)
    (found,) = at_master(callers(adopted=8, born=2), waiting=6)
    assert not is_of_slots(found)


def test_the_netlink_rung_counts_nobody_who_waits() -> None:
    (found,) = at_master(callers(open=10), rung="netlink")
    assert is_of_slots(found)


def test_a_socket_at_another_address_of_the_port_is_another() -> None:
    for path in ("192.0.2.9:8000", "192.0.2.1:9000", "/run/a:8000", "lb1.example:8000"):
        (found,) = at_master(callers(open=14), path=path)
        assert not is_of_slots(found), path


def test_a_socket_in_another_network_is_another_unless_its_process_holds_it() -> None:
    elsewhere = make.processes(
        make.at(0), make.process(make.MASTER, Kind.MASTER, parent_pid=1, netns=7), make.process()
    )
    socket = make.master_socket(path="192.0.2.1:8000", inode=None)
    world = table(elsewhere, CommandSockets(make.at(0), (socket,), (), (), {}))
    world.apply(make.targets(make.at(0), callers(open=14)))
    assert slots_taken(world, queue(4)) is None
    world.apply(make.holders(make.at(0), (make.MASTER, 5, LISTENER.inode)))
    assert slots_taken(world, queue(4)) is socket


def test_a_bug_is_not_quoted_where_the_slots_are_the_cause() -> None:
    """A master that is HAProxy, with room, would fit otherwise."""
    world = table(
        CommandSockets(make.at(0), (make.master_socket(path="192.0.2.1:8000"),), (), (), {}),
        make.holders(make.at(0), (make.WORKER, 6, LISTENER.inode)),
        make.info_sample(make.at(0), CurrConns="3", Maxconn="2000"),
        make.targets(make.at(0), callers(adopted=10)),
    )
    (found,) = watch([4] * 12, world, NotAccepting(drift))
    assert is_of_slots(found) and found.known_bug is None
