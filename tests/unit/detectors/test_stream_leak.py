"""stream-leak: named when nothing explains a held socket, silent when anything does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hatrace.detectors.check_leak import CheckLeak
from hatrace.detectors.stream_leak import StreamLeak
from hatrace.flows.table import Table
from hatrace.model.address import packed
from hatrace.model.event import LogLine, Stream
from hatrace.model.finding import Confidence, Finding, KnownBug, Severity
from hatrace.model.flow import Flag, Flow
from hatrace.model.topology import Bind, Timeouts
from tests import factories as make
from tests.unit.detectors.worlds import ask, nothing_known, table, text_of


def session(born: float, ends: float = 0.5, size: int = 0) -> tuple[Flow, Flow]:
    """A finished session as 2.9.1 leaves it: client CLOSE_WAIT, server CLOSE, both held."""
    sent = size or round(100 + born * 10)
    front = make.client_flow(born, received_bytes=sent, sent_bytes=0)
    back = make.flow(born + 0.001, sent_bytes=sent, received_bytes=0)
    return make.half_closed(front, ends), make.ghost(back, ends)


def adopted(flow: Flow) -> Flow:
    """The same, as the inventory finds it: no history."""
    side = Flag.ACCEPTED if flow.flags & Flag.ACCEPTED else Flag.CONNECTED
    return flow._replace(
        flags=int(Flag.ADOPTED | Flag.OWNED | side),
        born_ns=make.at(0),
        connect_ns=0,
        established_ns=0,
        fin_ns=0,
        closed_ns=0,
        moved_ns=0,
    )


def leaked(n: int, start: float = 1.0, gap: float = 1.0) -> list[Flow]:
    return [flow for k in range(n) for flow in session(start + gap * k)]


def found(flows: Sequence[Flow], seconds: float, world: Table | None = None) -> list[Finding]:
    scan = make.open_scan(make.at(seconds), *flows)
    return ask(StreamLeak(nothing_known), world or table(), seconds, scan)


def confirmed(world: Table, seconds: float, flows: Sequence[Flow], *known: Stream) -> None:
    """Who holds what, and what `show sess` says of it."""
    world.apply(make.holders_of(make.at(seconds), *flows))
    world.apply(make.streams(make.at(seconds), *known))


def test_the_2_9_1_signature_is_named() -> None:
    (finding,) = found(leaked(5), 10)
    assert finding.subject == "pid 100 backend be"
    assert finding.count == 10
    assert finding.confidence is Confidence.CERTAIN
    assert "5 in CLOSE_WAIT" in finding.claim
    assert "5 in CLOSE (ghost" in finding.claim
    assert "5 times client CLOSE_WAIT + server CLOSE" in finding.cause
    assert any("slow or half-closed peer" in words for words in finding.ruled_out)


@pytest.mark.parametrize("same_port", [False, True])
def test_it_is_not_named_check_leak_with_checks_on(same_port: bool) -> None:
    server = make.same_port_server() if same_port else make.server()
    world = table(make.servers(make.at(0), server))
    flows = leaked(5)
    scan = make.open_scan(make.at(10), *flows)
    world.apply(make.finished(make.tcp_check(2), make.tcp_check(4)))
    assert [f.count for f in ask(StreamLeak(nothing_known), world, 10, scan)] == [10]
    assert not ask(CheckLeak(nothing_known), world, 10)


def test_it_is_named_two_seconds_after_the_second_peer_left() -> None:
    flows = leaked(4, start=1.0, gap=0.1)
    assert not found(flows, 2.5)
    assert found(flows, 3.9)


def test_sessions_whose_sockets_are_both_dead_are_named_whatever_lies_in_their_queues() -> None:
    flows = [
        make.ghost(flow, 0.5)._replace(unread_bytes=1000, unsent_bytes=1000)
        for pair in (session(1.0), session(1.1))
        for flow in pair
    ]
    (finding,) = found(flows, 4)
    assert finding.confidence is Confidence.LIKELY
    assert "2 times client CLOSE + server CLOSE" in finding.cause


def test_growth_and_limit_are_given() -> None:
    (finding,) = found(leaked(20), 23)
    assert finding.growth is not None
    assert 115 <= finding.growth.per_minute <= 125
    assert finding.forecast is not None
    assert finding.forecast.limit == "fd limit of pid 100"
    assert finding.severity is Severity.CRITICAL


def test_maxconn_is_named_when_it_comes_first() -> None:
    world = table(make.info_sample(make.at(0), Maxconn="200", CurrConns="150"))
    (finding,) = found(leaked(20), 23, world)
    assert finding.forecast is not None
    assert finding.forecast.limit == "maxconn of pid 100"


def test_what_leaked_before_hatrace_came_is_named_within_two_seconds() -> None:
    flows = [adopted(flow) for flow in leaked(8)]
    (finding,) = found(flows, 1.5)
    assert (finding.count, finding.preexisting) == (16, 16)
    assert finding.confidence is Confidence.CERTAIN
    assert "how long" in finding.caveat


def test_a_ghost_found_alone_is_likely() -> None:
    (finding,) = found([adopted(session(1)[1])], 1.5)
    assert finding.confidence is Confidence.LIKELY
    assert finding.severity is Severity.WARNING


# Look-alikes ------------------------------------------------------------------------------


def test_a_half_closed_client_whose_server_streams_is_silent() -> None:
    for second in range(3, 600, 7):
        moved = make.at(second - 0.5)
        front = make.half_closed(make.client_flow(1, moved_ns=moved))
        back = make.flow(1.001, moved_ns=moved)
        assert not found([front, back], second)


def test_a_half_closed_client_waits_for_a_slow_server_until_its_timeout() -> None:
    front, back = make.half_closed(make.client_flow(1)), make.flow(1.001)
    assert not found([front, back], 31)
    (finding,) = found([front, back], 43)
    assert finding.confidence is Confidence.LIKELY
    assert "the longest (30 s) is past" in "".join(finding.ruled_out)


def test_without_known_timeouts_it_waits_for_long() -> None:
    front = make.half_closed(make.client_flow(1))
    unknown = make.configured(make.at(0), timeouts=Timeouts())
    assert not found([front], 890, table(unknown))
    (finding,) = found([front], 910, table(unknown))
    assert finding.confidence is Confidence.POSSIBLE
    assert "timeout" in finding.caveat


def test_a_living_stream_explains_it() -> None:
    world = table()
    front, back = make.half_closed(make.client_flow(1)), make.flow(1.001)
    confirmed(world, 20, [front, back], make.stream(expires_ms=600_000))
    assert not found([front, back], 500, world)


def test_a_socket_without_a_stream_is_certain_in_seconds() -> None:
    world, front = table(), make.half_closed(make.client_flow(1))
    confirmed(world, 4, [front])
    assert not found([front], 8, world)
    confirmed(world, 5, [front])
    (finding,) = found([front], 8, world)
    assert finding.confidence is Confidence.CERTAIN
    assert "no stream in show sess" in finding.cause
    assert finding.subject == "pid 100 frontend fe"


def test_an_answer_that_was_cut_short_proves_nothing() -> None:
    world, front = table(), make.half_closed(make.client_flow(1))
    world.apply(make.holders_of(make.at(4), front))
    world.apply(make.streams(make.at(4), complete=False))
    assert not found([front], 8, world)


def test_a_stream_whose_timeout_is_past_is_certain() -> None:
    world = table()
    front, back = make.half_closed(make.client_flow(1)), make.flow(1.001)
    confirmed(world, 10, [front, back], make.stream(expires_ms=-4_000))
    (finding,) = found([front, back], 12, world)
    assert finding.confidence is Confidence.CERTAIN


def test_less_than_a_second_left_is_not_past() -> None:
    """`exp=0s`: HAProxy renews a stream's timer when it fires, not when data moves."""
    world = table()
    front, back = make.half_closed(make.client_flow(1)), make.flow(1.001)
    confirmed(world, 10, [front, back], make.stream(expires_ms=0))
    assert not found([front, back], 12, world)


def test_a_timer_that_has_just_fired_is_no_leak() -> None:
    """It says `<PAST>` until the stream's thread comes to it; data moved a moment before."""
    world, moved = table(), make.at(8)
    front = make.half_closed(make.client_flow(1, moved_ns=moved))
    back = make.flow(1.001, moved_ns=moved)
    confirmed(world, 10, [front, back], make.stream(expires_ms=-1))
    assert not found([front, back], 14, world)


def test_both_peers_gone_is_named_although_the_timer_still_runs() -> None:
    world, flows = table(), list(session(1))
    confirmed(world, 4, flows, make.stream(expires_ms=3_600_000))
    assert found(flows, 5, world)


def test_a_slow_reader_after_its_half_close_is_silent() -> None:
    """Client half-closed and reads slowly, server is through: data waits in the client's side."""
    front, back = session(1)
    front = front._replace(unsent_bytes=80_000, moved_ns=make.at(20))
    assert not found([front, back], 25)
    assert not found([front, back], 45)


@pytest.mark.parametrize("came", ["before", "after"])
def test_a_waiting_client_and_another_ones_waiting_server_are_no_session(came: str) -> None:
    """One has ended its half and reads on, the other's client has not ended: both are healthy."""
    front = make.half_closed(make.client_flow(1), 0.1)
    back = make.half_closed(make.flow(1.001), 0.1)
    flows = [front, back] if came == "after" else [adopted(front), adopted(back)]
    assert not found(flows, 20)


def test_one_unread_byte_is_the_fin() -> None:
    front, back = session(1)
    assert found([front._replace(unread_bytes=1), back], 20)


def test_long_lived_connections_are_no_leak() -> None:
    tunnel = [make.client_flow(1), make.flow(1.001)]
    assert not found(tunnel, 100_000)


def test_a_single_reset_waits_but_a_pile_does_not() -> None:
    resets = [make.ghost(make.client_flow(1 + n), by_reset=True) for n in range(12)]
    assert not found(resets[:5], 25)
    (finding,) = found(resets, 25)
    assert finding.confidence is Confidence.LIKELY
    assert finding.count == 12


def test_sockets_let_go_are_no_leak() -> None:
    flows = [flow._replace(released_ns=make.at(4)) for flow in leaked(3)]
    assert not found(flows, 60)


def test_a_stopped_process_is_called_stopped() -> None:
    stopped = make.processes(make.at(0), make.process(stopped=True))
    (finding,) = found(leaked(5), 10, table(stopped))
    assert finding.subject == "pid 100 stopped"
    assert "is stopped" in finding.claim
    assert [step.command for step in finding.next_steps][-1] == "kill -CONT 100"


def test_fronts_and_backs_older_than_hatrace_pair_by_number_only_if_both_are_gone() -> None:
    front = adopted(session(1)[0])
    alive = make.flow(0, flags=int(Flag.ADOPTED | Flag.CONNECTED))
    assert not found([front, alive], 20)


def test_an_answer_that_haproxy_keeps_back_is_no_leak() -> None:
    """Lua sleeps while the server has closed and the client has ended its half."""
    front = make.half_closed(make.client_flow(1, received_bytes=60, sent_bytes=0), 0.5)
    closed = make.half_closed(make.flow(1.001, sent_bytes=60, received_bytes=90), 0.5)
    for back in (closed, make.ghost(closed)):
        world = table()
        confirmed(world, 6, [front, back], make.stream(front_fd=10, back_fd=11, expires_ms=9_000))
        assert not found([front, back], 8, world)
        confirmed(world, 30, [front, back], make.stream(front_fd=10, back_fd=11, expires_ms=-1))
        assert found([front, back], 31, world)


def test_one_found_dead_waits_for_haproxys_word() -> None:
    ghost = adopted(session(1)[1])
    assert not found([ghost], 5, table(make.info_sample(make.at(0))))
    assert found([ghost], 12, table(make.info_sample(make.at(0))))


# Words ------------------------------------------------------------------------------------


def bug_of_2_9_1(version: str, slug: str) -> Sequence[KnownBug]:
    bug = KnownBug("123a9e7d8321", "zero-copy forwarding leaks in mode tcp", "2.9.2")
    return [bug] if (version, slug) == ("2.9.1", "stream-leak") else []


@pytest.mark.parametrize(
    ("version", "options", "mode", "quoted"),
    [
        ("2.9.1", (), "tcp", True),
        ("2.6.12", (), "tcp", False),
        ("2.9.1", ("-dZ",), "tcp", False),
        ("2.9.1", (), "http", False),
    ],
)
def test_a_bug_is_quoted_only_with_its_version_and_signature(
    version: str, options: tuple[str, ...], mode: str, quoted: bool
) -> None:
    world = table(
        make.processes(make.at(0), make.process(version=version)),
        make.servers(make.at(0), make.server(mode=mode)),
        make.configured(make.at(0), options=options),
    )
    scan = make.open_scan(make.at(10), *leaked(5))
    (finding,) = ask(StreamLeak(bug_of_2_9_1), world, 10, scan)
    assert (finding.known_bug is not None) is quoted


def test_healthy_checks_and_an_answering_process_are_ruled_out() -> None:
    world = table(
        make.targets(make.at(0), make.target(open=1)), make.info_sample(make.at(9), Version="x")
    )
    (finding,) = found(leaked(5), 10, world)
    ruled_out = "\n".join(finding.ruled_out)
    assert "health checks (check-leak)" in ruled_out
    assert "answered its runtime API" in ruled_out


def test_evidence_shows_both_halves_with_their_fds() -> None:
    world, flows = table(), leaked(3)
    world.apply(make.holders_of(make.at(5), *flows))
    (finding,) = found(flows, 10, world)
    front, back = finding.evidence[:2]
    assert (front.fd, front.state, back.fd, back.state) == (10, "CLOSE_WAIT", 11, "CLOSE")
    assert "client side fe" in front.note
    assert "server side be/s1" in back.note
    assert back.condition == "ghost"


def test_the_work_around_is_a_step_where_the_signature_fits() -> None:
    (finding,) = found(leaked(5), 10)
    assert "tune.disable-zero-copy-forwarding" in text_of(finding)
    http = table(make.servers(make.at(0), make.server(mode="http")))
    (other,) = found(leaked(5), 10, http)
    assert "tune.disable-zero-copy-forwarding" not in text_of(other)


def test_several_frontends_and_backends_are_told_apart() -> None:
    servers = [make.server(), make.server("s2", backend="other", address="192.0.2.9")]
    binds = [Bind("fe", packed("0.0.0.0"), 80, "tcp"), Bind("fe2", packed("0.0.0.0"), 81, "tcp")]
    world = table(make.servers(make.at(0), *servers), make.configured(make.at(0), *binds))
    flows = leaked(3)
    for n in range(3):
        front, back = session(1.5 + n)
        flows += [
            front._replace(lport=81),
            back._replace(raddr=packed("192.0.2.9")),
        ]
    assert [one.subject for one in found(flows, 20, world)] == [
        "pid 100 backend be",
        "pid 100 backend other",
    ]


def test_a_client_half_alone_is_told_of_with_the_others() -> None:
    """Its server's half was taken for a check's, or has gone."""
    alone = make.half_closed(make.client_flow(9.5, received_bytes=0), 0.5)
    world, flows = table(), [*leaked(5), alone]
    confirmed(world, 14, flows)
    (finding,) = found(flows, 16, world)
    assert finding.subject == "pid 100 backend be"
    assert finding.count == 11
    assert "1 times client CLOSE_WAIT alone" in finding.cause


def test_a_master_and_other_programs_are_left_alone() -> None:
    flows = [flow._replace(pid=4711, comm_bytes=b"nginx".ljust(16, b"\0")) for flow in leaked(5)]
    assert not found(flows, 60)


def test_the_same_events_give_the_same_words() -> None:
    flows = leaked(9)
    assert found(flows, 20) == found(flows, 20)
    assert [f.claim for f in found(flows, 20)] == [f.claim for f in found(flows[::-1], 20)]


def test_it_quotes_what_haproxy_logged_of_its_servers() -> None:
    said = [
        LogLine(make.at(0), make.WORKER, "Server be/s1 is UP."),
        LogLine(make.at(5), make.WORKER, "Server be/s1 is DOWN, reason: Layer4 timeout"),
        LogLine(make.at(6), make.WORKER, "Server other/s1 is DOWN, reason: Layer4 timeout"),
    ]
    (finding,) = found(leaked(5), 10, table(*said))
    assert [one.note for one in finding.evidence if one.what == "log"] == [said[1].text]
