"""Check or session, by what a flow did, where both go to one address and port."""

from __future__ import annotations

import pytest

from hatrace.flows.behaviour import REMEMBERED_CONNECTS, REMEMBERED_SIZES, Habit, judge
from hatrace.flows.places import Place
from hatrace.model.flow import Flag, Flow, State
from hatrace.model.topology import CheckSettings, Server
from tests import factories as f
from tests.unit.flows.support import LIKELY, POSSIBLE, haproxy, said, table

SAME = {"rport": f.SERVICE_PORT, "target": f.DATA_TARGET}


def place(server: Server | None = None) -> Place:
    server = server or f.same_port_server()
    return Place(sessions=(server,), checks=(server,))


def silent(**fields: int) -> Flow:
    return f.flow(**({"sent_bytes": 0, "received_bytes": 0, "moved_ns": 0} | fields))


def verdict(flow: Flow, server: Server | None = None) -> tuple[str, object]:
    found = judge(flow, place(server), None)
    assert found.reason
    return str(found.role), found.confidence


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (f.tcp_check(**SAME), ("check", LIKELY)),
        (f.http_check(**SAME), ("check", POSSIBLE)),
        (f.refused(**SAME), ("check", POSSIBLE)),
        (f.flow(), ("server", POSSIBLE)),
        (f.ended(f.flow()), ("server", POSSIBLE)),
        (f.flow(sent_bytes=1 << 20), ("server", LIKELY)),
        (f.flow(received_bytes=1 << 20), ("server", LIKELY)),
        (f.flow(moved_ns=f.at(60)), ("server", LIKELY)),
        (f.ended(silent(), after=30, flags=Flag.RST_SENT), ("server", LIKELY)),
        (silent(), ("check", POSSIBLE)),
        (silent(state=int(State.SYN_SENT), established_ns=0), ("check", POSSIBLE)),
        (silent(flags=int(Flag.ADOPTED), connect_ns=0, established_ns=0), ("check", POSSIBLE)),
    ],
)
def test_single_flows(flow: Flow, expected: tuple[str, object]) -> None:
    assert verdict(flow) == expected


def test_adopted_flows_have_no_age_to_judge_by() -> None:
    """Their birth is the inventory's time, which says nothing of when data moved."""
    flow = f.flow(
        connect_ns=0, established_ns=0, moved_ns=f.at(90), flags=int(Flag.ADOPTED), sent_bytes=60
    )
    assert verdict(flow) == ("server", POSSIBLE)


def test_an_http_session_connects_when_it_has_something_to_send() -> None:
    assert verdict(silent(), f.same_port_server(mode="http")) == ("check", LIKELY)


@pytest.mark.parametrize("status", ["DOWN", "MAINT", "NOLB"])
def test_no_session_tries_a_server_that_is_down(status: str) -> None:
    assert verdict(f.refused(**SAME), f.same_port_server(status=status)) == ("check", LIKELY)


def test_a_tcp_check_carries_nothing() -> None:
    server = f.same_port_server(settings=CheckSettings(inter_ms=2000, kind="tcp"))
    assert verdict(f.flow(sent_bytes=60), server) == ("server", LIKELY)


def test_an_agent_speaks_unasked() -> None:
    server = f.same_port_server(
        agent_checked=True, agent_address=f.SERVER, agent_port=f.SERVICE_PORT, checked=False
    )
    both = Place(sessions=(server,), agents=(server,))
    found = judge(f.flow(sent_bytes=0, received_bytes=9), both, None)
    assert (found.role, found.confidence) == ("agent-check", POSSIBLE)


# Rhythm ------------------------------------------------------------------------------------


def habit_of(*flows: Flow) -> Habit:
    habit = Habit()
    for flow in flows:
        habit.learn(flow)
    return habit


def checks(*seconds: float, request: int = 60) -> list[Flow]:
    return [f.http_check(second, request, **SAME) for second in seconds]


def test_a_rhythm_is_recognised_from_the_fourth_connect() -> None:
    flows = checks(0, 2, 4, 6)
    assert habit_of(*flows[:3]).interval_ms(flows[0], place()) is None
    found = judge(flows[3], place(), habit_of(*flows))
    assert (found.role, found.confidence) == ("check", LIKELY)
    assert "2000 ms" in found.reason


def test_the_order_of_arrival_does_not_matter() -> None:
    flows = checks(6, 0, 4, 2)
    assert habit_of(*flows).interval_ms(flows[0], place()) == 2000


def test_a_flow_seen_twice_counts_once() -> None:
    flows = checks(0, 2, 4)
    assert habit_of(*flows, *flows).interval_ms(flows[0], place()) is None


def test_jitter_is_tolerated_and_chance_is_not() -> None:
    jittered = checks(0, 2.1, 4.0, 6.2, 8.1)
    assert habit_of(*jittered).interval_ms(jittered[0], place()) == 2000
    random = checks(0, 0.3, 2.9, 3.0, 6.8, 7.1, 9.5)
    assert habit_of(*random).interval_ms(random[0], place()) is None


def test_lost_byte_counts_do_not_hide_the_rhythm() -> None:
    flows = [*checks(0, 2, 6), f.tcp_check(4, **SAME), f.tcp_check(8, **SAME)]
    assert habit_of(*flows).interval_ms(flows[0], place()) == 2000
    assert habit_of(*flows[:3]).interval_ms(flows[0], place()) is None


def test_only_the_same_request_counts() -> None:
    flows = [f.http_check(2 * n, 60 + n, **SAME) for n in range(8)]
    assert habit_of(*flows).interval_ms(flows[0], place()) is None


def test_sessions_between_do_not_hide_the_rhythm() -> None:
    flows = checks(0, 2, 4, 6)
    sessions = [f.flow(n / 7, sent_bytes=300 + n % 5) for n in range(50)]
    assert habit_of(*sessions, *flows).interval_ms(flows[0], place()) == 2000


@pytest.mark.parametrize(("distance", "interval"), [(0.5, 500), (10, 10_000), (5, None)])
def test_every_configured_interval_is_a_rhythm(distance: float, interval: int | None) -> None:
    settings = CheckSettings(inter_ms=2000, fastinter_ms=500, downinter_ms=10_000)
    flows = checks(*(n * distance for n in range(5)))
    there = place(f.same_port_server(settings=settings))
    assert habit_of(*flows).interval_ms(flows[0], there) == interval


def test_two_servers_of_one_address_keep_one_rhythm_each() -> None:
    servers = (f.same_port_server(), f.same_port_server("s2"))
    flows = checks(0, 0.5, 2, 2.5, 4, 4.5, 6, 6.5)
    there = Place(sessions=servers, checks=servers)
    assert habit_of(*flows).interval_ms(flows[0], there) == 2000


def test_data_that_moves_late_beats_a_rhythm() -> None:
    flows = checks(0, 2, 4, 6)
    late = flows[3]._replace(moved_ns=flows[3].connect_ns + 20_000_000_000)
    assert judge(late, place(), habit_of(*flows)).role == "server"


def test_a_habit_is_bounded() -> None:
    habit = habit_of(*(f.http_check(n, n % 100, **SAME) for n in range(5_000)))
    assert len(habit._connects) == REMEMBERED_SIZES
    habit = habit_of(*checks(*range(1_000)))
    assert [len(one) for one in habit._connects.values()] == [REMEMBERED_CONNECTS]


def test_leaking_checks_are_recognised_while_they_are_open() -> None:
    """They never end, so the scans have to show the rhythm."""
    world = table(*haproxy(f.same_port_server()))
    leaked = [f.half_closed(f.http_check(2 * n, **SAME)) for n in range(4)]
    leaked = [one._replace(released_ns=0, gone_ns=0) for one in leaked]
    for n in range(1, 5):
        world.apply(f.open_scan(f.at(2 * n), *leaked[:n]))
    assert said(world.attribution(leaked[0])) == ("check", "be/s1", LIKELY)
    session = f.half_closed(f.flow(5))
    assert world.attribution(session).role == "server"
