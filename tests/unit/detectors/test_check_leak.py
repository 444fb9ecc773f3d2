"""check-leak: named when checks leave their sockets, silent when they are merely slow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hatrace.detectors.check_leak import CheckLeak
from hatrace.model.event import LogLine, Targets
from hatrace.model.finding import Confidence, Finding, Severity
from hatrace.model.flow import Flag, Flow, State
from hatrace.model.topology import CheckSettings, CommandSocket
from tests import factories as make
from tests.unit.detectors.worlds import ask, nothing_known, table, text_of

INTER = 2.0


def leaking(n: int, until: float) -> list[Flow]:
    """Checks every two seconds from second 1 on, of which ``n`` stay open, at ``until``."""
    flows = [make.check_flow(1 + INTER * k) for k in range(n)]
    return [one for one in flows if one.born_ns <= make.at(until)]


def named(n: int = 3, seconds: float = 5.5, **info: object) -> Finding:
    flows = leaking(n, seconds)
    world = table(make.holders_of(make.at(seconds), *flows), **info)
    (finding,) = ask(
        CheckLeak(nothing_known), world, seconds, make.open_scan(make.at(seconds), *flows)
    )
    return finding


def test_it_is_named_within_three_intervals() -> None:
    detector, world = CheckLeak(nothing_known), table()
    flows = [make.check_flow(1 + INTER * k) for k in range(4)]
    first_named = None
    for second in range(1, 9):
        there = [one for one in flows if one.born_ns < make.at(second)]
        scan = make.open_scan(make.at(second), *there)
        if ask(detector, world, second, scan) and first_named is None:
            first_named = second
    assert first_named is not None
    assert first_named <= 1 + 3 * INTER


def test_the_claim_names_all_that_matters() -> None:
    finding = named()
    assert finding.subject == "backend be"
    assert finding.count == 2
    assert finding.confidence is Confidence.CERTAIN
    for words in ("pid 100", "2 health-check sockets", "be/s1", "192.0.2.1:8000"):
        assert words in finding.claim
    assert "growing by 30 per minute (over 4 s)" in finding.claim
    assert "fd limit of pid 100 (4,096) in about 2 hours" in finding.claim


def test_evidence_has_pid_fd_inode_and_ends() -> None:
    first = named().evidence[0]
    assert first.pid == make.WORKER
    assert first.fd == 10
    assert first.inode
    assert first.remote == "192.0.2.1:8000"
    assert first.state == "ESTABLISHED"
    assert first.age_s == 4.5


def several(servers: int) -> list[Flow]:
    """Three sockets for each of some servers' checks."""
    ports = range(8002, 8002 + servers)
    return [make.check_flow(1 + INTER * k, rport=port) for port in ports for k in range(3)]


def test_servers_of_a_backend_that_leak_are_one_finding() -> None:
    servers = [make.server(f"s{n}", check_port=8002 + n) for n in range(4)]
    world = table(make.servers(make.at(0), *servers))
    (finding,) = ask(CheckLeak(nothing_known), world, 6, make.open_scan(make.at(6), *several(4)))
    assert finding.subject == "backend be"
    assert finding.count == 8
    assert "8 health-check sockets of be/s0, s1, s2, s3 to 192.0.2.1:8002, 192" in finding.claim
    assert "growing by 120 per minute" in finding.claim
    assert finding.forecast is not None and "120 per minute" in finding.forecast.arithmetic
    assert "4 check tasks would hold at most 4 sockets" in finding.ruled_out[0]
    assert {one.remote for one in finding.evidence} == {f"192.0.2.1:{8002 + n}" for n in range(4)}
    assert "disable health be/s3" not in text_of(finding)  # no command-line socket is known


def test_its_name_stays_when_more_servers_join() -> None:
    servers = [make.server(f"s{n}", check_port=8002 + n) for n in range(12)]
    world, detector = table(make.servers(make.at(0), *servers)), CheckLeak(nothing_known)
    (first,) = ask(detector, world, 6, make.open_scan(make.at(6), *several(1)))
    (later,) = ask(detector, world, 7, make.open_scan(make.at(7), *several(12)))
    assert first.key == later.key
    assert later.since_ns == make.at(6)
    assert "be/s0, s1, s2 and 9 more to 192.0.2.1:8002, " in later.claim
    assert "192.0.2.1:8004 and 9 more whose checks" in later.claim
    assert len(later.evidence) == 20
    assert len({one.remote for one in later.evidence}) == 12


def test_the_forecast_takes_all_leaks_of_a_process_together() -> None:
    other = make.server("s2", backend="other", check_port=8002)
    world = table(make.servers(make.at(0), make.server(), other))
    flows = leaking(3, 6) + several(1)
    found = ask(CheckLeak(nothing_known), world, 6, make.open_scan(make.at(6), *flows))
    assert [finding.subject for finding in found] == ["backend be", "backend other"]
    for finding in found:
        assert finding.growth is not None and finding.forecast is not None
        assert finding.growth.per_minute == 30
        assert "60 per minute" in finding.forecast.arithmetic


@pytest.mark.parametrize(
    "wrong",
    [make.half_closed, make.ghost, lambda flow: flow._replace(state=int(State.FIN_WAIT2))],
    ids=["CLOSE_WAIT", "CLOSE", "FIN_WAIT2"],
)
def test_every_state_counts_while_the_fd_is_held(wrong: object) -> None:
    flows = [wrong(one) for one in leaking(3, 6)]  # type: ignore[operator]
    found = ask(CheckLeak(nothing_known), table(), 6, make.open_scan(make.at(6), *flows))
    assert [finding.count for finding in found] == [2]
    assert State(flows[0].state).name in found[0].cause


def test_sockets_that_were_let_go_do_not_count() -> None:
    flows = [one._replace(released_ns=make.at(5)) for one in leaking(3, 6)]
    assert not ask(CheckLeak(nothing_known), table(), 6, make.open_scan(make.at(6), *flows))


def test_a_hung_check_is_silent_for_ever() -> None:
    """Each check hangs until its timeout, then the next one does: one socket at any time."""
    detector, world = CheckLeak(nothing_known), table()
    for second in range(1, 120):
        hanging = make.check_flow(second - second % 2 - 0.01)
        assert not ask(detector, world, second, make.open_scan(make.at(second), hanging))


def test_a_check_slower_than_the_known_timeouts_is_silent() -> None:
    detector, world = CheckLeak(nothing_known), table()
    slow = make.check_flow(1)
    for second in range(1, 50):
        assert not ask(detector, world, second, make.open_scan(make.at(second), slow))


def test_health_and_agent_check_hold_one_each() -> None:
    both = make.server(agent_checked=True, agent_address=make.SERVER, agent_port=8000)
    world = table(make.servers(make.at(0), both))
    flows = [make.check_flow(1), make.check_flow(1.2)]
    detector = CheckLeak(nothing_known)
    for second in range(2, 20):
        assert not ask(detector, world, second, make.open_scan(make.at(second), *flows))


def test_servers_that_share_an_address_hold_one_each() -> None:
    servers = [make.server(f"s{n}") for n in range(4)]
    world = table(make.servers(make.at(0), *servers))
    flows = [make.check_flow(1 + n / 10) for n in range(4)]
    detector = CheckLeak(nothing_known)
    assert not ask(detector, world, 9, make.open_scan(make.at(9), *flows))
    more = flows + [make.check_flow(3 + n / 10) for n in range(4)]
    (finding,) = ask(detector, world, 10, make.open_scan(make.at(10), *more))
    assert finding.count == 4


def test_a_scan_between_two_checks_is_no_leak() -> None:
    flows = [make.check_flow(1), make.check_flow(3)]
    assert not ask(CheckLeak(nothing_known), table(), 3.01, make.open_scan(make.at(3.01), *flows))


def test_one_socket_far_older_than_any_timeout_is_named_when_checks_go_on() -> None:
    world = table(make.targets(make.at(0), make.target(open=1)))
    detector, lone = CheckLeak(nothing_known), make.check_flow(1)
    named = {}
    for second in range(3, 122, 2):
        scan = make.open_scan(make.at(second), lone)
        for found in ask(detector, world, second, make.finished(make.tcp_check(second)), scan):
            named[second] = found.severity
    assert named == dict.fromkeys(range(61, 122, 2), Severity.NOTICE)


def test_one_old_socket_is_silent_when_no_further_check_comes() -> None:
    detector, world = CheckLeak(nothing_known), table()
    assert not ask(detector, world, 900, make.open_scan(make.at(900), make.check_flow(1)))


def test_what_leaked_before_hatrace_came_is_named_at_once() -> None:
    old = [
        make.check_flow(0, flags=int(Flag.ADOPTED | Flag.OWNED | Flag.CONNECTED), connect_ns=0)
        for _ in range(50)
    ]
    (finding,) = ask(CheckLeak(nothing_known), table(), 1, make.open_scan(make.at(1), *old))
    assert (finding.count, finding.preexisting) == (49, 49)
    assert finding.growth is None


def test_what_is_older_than_hatrace_is_shown_before_what_was_born_while_it_looked() -> None:
    """The inventory saw the old ones after the new one's birth: that time is not their age."""
    adopted = int(Flag.ADOPTED | Flag.OWNED | Flag.CONNECTED)
    new = make.check_flow(0.2)
    old = [make.check_flow(0.3, flags=adopted, connect_ns=0) for _ in range(2)]
    scan = make.open_scan(make.at(1), new, *old)
    (finding,) = ask(CheckLeak(nothing_known), table(), 1, scan)
    assert [one.preexisting for one in finding.evidence if one.what == "tcp"] == [True, True]


def test_a_leak_that_no_longer_grows_is_a_notice() -> None:
    old = [
        make.check_flow(0, flags=int(Flag.ADOPTED | Flag.OWNED | Flag.CONNECTED), connect_ns=0)
        for _ in range(50)
    ]
    (finding,) = ask(CheckLeak(nothing_known), table(), 60, make.open_scan(make.at(60), *old))
    assert finding.severity is Severity.NOTICE
    assert "not growing" in finding.claim


def test_leaked_checks_are_told_from_sessions_on_the_same_port() -> None:
    """A TCP check every 2 s which stays; sessions come at odd times and carry data."""
    server = make.same_port_server(settings=CheckSettings(inter_ms=2000, kind="tcp"), mode="http")
    world = table(make.servers(make.at(0), server))
    checks = [make.check_flow(1 + 2 * n, rport=443, target=0) for n in range(8)]
    sessions = [make.flow(0.3 + 1.7 * n) for n in range(3)]
    (finding,) = ask(
        CheckLeak(nothing_known), world, 18, make.open_scan(make.at(18), *checks, *sessions)
    )
    assert finding.count == 7
    assert finding.subject == "backend be"


def test_sessions_in_the_rhythm_of_checks_are_asked_for_first() -> None:
    """They connect every two seconds, ask what checks ask, and stay: only HAProxy can tell."""
    server = make.same_port_server(settings=CheckSettings(inter_ms=2000, kind="http"))
    world = table(make.servers(make.at(0), server), make.info_sample(make.at(1)))
    flows = [make.check_flow(1 + 2 * n, rport=443, target=0, sent_bytes=18) for n in range(6)]
    world.apply(make.holders_of(make.at(12), *flows))
    detector, scan = CheckLeak(nothing_known), make.open_scan(make.at(12), *flows)
    assert not ask(detector, world, 12, scan)
    known = [make.stream(front_fd=90 + n, back_fd=10 + n) for n in range(6)]
    assert not ask(detector, world, 13, make.streams(make.at(13), *known))
    assert not ask(detector, world, 60)
    (finding,) = ask(detector, world, 61, make.streams(make.at(61)))
    assert finding.count == 5


def test_where_show_sess_may_not_be_read_the_rhythm_must_do() -> None:
    server = make.same_port_server(settings=CheckSettings(inter_ms=2000, kind="http"))
    world = table(make.servers(make.at(0), server), make.info_sample(make.at(1)))
    flows = [make.check_flow(1 + 2 * n, rport=443, target=0, sent_bytes=18) for n in range(6)]
    detector, scan = CheckLeak(nothing_known), make.open_scan(make.at(12), *flows)
    assert not ask(detector, world, 12, scan)
    (finding,) = ask(detector, world, 30)
    assert finding.confidence is Confidence.LIKELY


def clients(seconds: float, count: int) -> Targets:
    """So many are connected to the frontend."""
    ends = {"address": "192.0.2.200", "port": 80, "pid": 0}
    return make.targets(make.at(seconds), make.target(7, inbound=True, open=count, **ends))


def test_without_haproxys_word_each_client_may_have_a_socket() -> None:
    """A database's pool in mode tcp: silent sockets to a port that is checked, too."""
    world = table(make.servers(make.at(0), make.same_port_server()), clients(1, 40))
    flows = [make.check_flow(0, rport=443, target=0) for _ in range(40)]
    detector = CheckLeak(nothing_known)
    assert not ask(detector, world, 60, make.open_scan(make.at(60), *flows))
    flows += [make.check_flow(1 + 2 * n, rport=443, target=0) for n in range(6)]
    (finding,) = ask(detector, world, 61, make.open_scan(make.at(61), *flows))
    assert finding.count == 5


def test_without_haproxys_word_kept_http_connections_may_be_a_pool() -> None:
    server = make.same_port_server(
        mode="http", settings=CheckSettings(inter_ms=2000, kind="http"), status=None
    )
    world = table(make.servers(make.at(0), server))
    kept = [make.check_flow(1 + 2 * n, rport=443, target=0, sent_bytes=18) for n in range(9)]
    assert not ask(CheckLeak(nothing_known), world, 20, make.open_scan(make.at(20), *kept))
    dead = [make.half_closed(flow) for flow in kept]
    assert ask(CheckLeak(nothing_known), world, 20, make.open_scan(make.at(20), *dead))


def test_doubts_that_come_and_go_do_not_resolve_it() -> None:
    """Silent sockets where silent sessions go as well: possible; with `show fd`, certain."""
    server = make.same_port_server(settings=CheckSettings(inter_ms=2000, kind="http"))
    world, detector = table(make.servers(make.at(0), server)), CheckLeak(nothing_known)
    flows = [make.check_flow(1 + 2 * n, rport=443, target=0) for n in range(3)]
    world.apply(make.holders_of(make.at(6), *flows))
    scan = make.open_scan(make.at(6), *flows)
    listed = make.descriptors(make.at(6), *(make.descriptor(fd, "check") for fd in (10, 11, 12)))
    assert [one.count for one in ask(detector, world, 6, scan, listed)] == [2]
    assert [one.count for one in ask(detector, world, 7, make.descriptors(make.at(7)))] == [2]
    assert not ask(detector, world, 8, make.open_scan(make.at(8)))


def test_ghosts_of_sessions_on_the_checks_port_are_no_checks() -> None:
    """The 2.9.1 signature where check port and service port are one."""
    world = table(make.servers(make.at(0), make.same_port_server()))
    flows = []
    for n in range(8):
        born = 1 + 2 * n
        flows += [
            make.half_closed(make.client_flow(born, received_bytes=60), 0.5),
            make.ghost(make.flow(born + 0.001, sent_bytes=60, received_bytes=0), 0.5),
        ]
    assert not ask(CheckLeak(nothing_known), world, 20, make.open_scan(make.at(20), *flows))


def test_idle_connections_of_a_pool_are_no_leaked_checks() -> None:
    options = make.configured(make.at(0), options=("check-reuse-pool",))
    server = make.same_port_server(mode="http", idle_connections=6)
    world = table(make.servers(make.at(0), server), options)
    flows = [make.check_flow(1 + 2 * n, rport=443, target=0) for n in range(6)]
    assert not ask(CheckLeak(nothing_known), world, 14, make.open_scan(make.at(14), *flows))


def test_two_workers_that_leak_have_two_subjects() -> None:
    detector = CheckLeak(nothing_known)
    world = table(make.processes(make.at(0), make.process(), make.process(101)))
    flows = leaking(3, 6)
    (first,) = ask(detector, world, 6, make.open_scan(make.at(6), *flows))
    flows += [make.check_flow(1 + 2 * n, pid=101, comm="haproxy") for n in range(3)]
    found = ask(detector, world, 7, make.open_scan(make.at(7), *flows))
    assert first.subject == "backend be"
    assert [finding.subject for finding in found] == ["backend be", "backend be (pid 101)"]
    assert found[0].since_ns == make.at(6)


def test_it_resolves_when_they_are_closed() -> None:
    detector, world = CheckLeak(nothing_known), table()
    assert ask(detector, world, 6, make.open_scan(make.at(6), *leaking(3, 6)))
    assert not ask(detector, world, 7, make.open_scan(make.at(7)))


def test_next_steps_can_be_pasted() -> None:
    flows = leaking(3, 6)
    socket = CommandSocket("/run/hap roxy.sock", False, make.WORKER, 1)
    sample = make.master_connections(make.at(1))
    sample = type(sample)(sample.at_ns, (socket,), (), (), {})
    world = table(sample)
    (finding,) = ask(CheckLeak(nothing_known), world, 6, make.open_scan(make.at(6), *flows))
    words = text_of(finding)
    assert "ss -tanpeo dst 192.0.2.1:8000" in words
    assert "echo 'disable health be/s1' | socat -t 5 - 'UNIX-CONNECT:/run/hap roxy.sock'" in words


def test_one_command_for_several_servers_has_spaces_where_it_may_be_broken() -> None:
    socket = CommandSocket("/run/haproxy.sock", False, make.WORKER, 1)
    servers = [make.server(f"s{n}", check_port=8002 + n) for n in range(3)]
    world = table(make.servers(make.at(0), *servers))
    world.apply(replace(make.master_connections(make.at(1)), sockets=(socket,)))
    (finding,) = ask(CheckLeak(nothing_known), world, 6, make.open_scan(make.at(6), *several(3)))
    words = text_of(finding)
    assert (
        'for one in be/s0 be/s1 be/s2; do echo "disable health $one" |'
        " socat -t 5 - UNIX-CONNECT:/run/haproxy.sock; done" in words
    )


def test_losses_are_said_beside_it() -> None:
    finding = named(blind_spots=("no accept",))
    assert "no accept" in finding.caveat


def test_the_same_events_give_the_same_words() -> None:
    flows = leaking(5, 20)
    scan = make.open_scan(make.at(20), *flows)
    answers = [ask(CheckLeak(nothing_known), table(), 20, scan) for _ in range(2)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("state", [State.SYN_SENT, State.CLOSE])
def test_sessions_that_a_server_does_not_take_are_no_checks(state: State) -> None:
    server = make.same_port_server(mode="http", status="DOWN")
    world = table(make.servers(make.at(0), server), make.info_sample(make.at(1)))
    trying = {"established_ns": 0, "moved_ns": 0, "state": int(state), "rport": 443}
    flows = [make.check_flow(10 + 0.1 * n, target=0, **trying) for n in range(8)]
    assert not ask(CheckLeak(nothing_known), world, 12, make.open_scan(make.at(12), *flows))


@pytest.mark.parametrize("option", ["check connect elsewhere", "socks4", "lua", "set-dst"])
def test_where_more_than_the_checks_may_connect_only_age_tells(option: str) -> None:
    known = make.configured(make.at(0), options=(option,))
    detector, flows = CheckLeak(nothing_known), [make.check_flow(1 + n) for n in range(6)]
    assert not ask(detector, table(known), 20, make.open_scan(make.at(20), *flows))
    world = table(known)
    (finding,) = ask(detector, world, 60, make.open_scan(make.at(60), *flows))
    assert finding.count == 6
    world.apply(make.holders_of(make.at(61), *flows))
    held = [make.stream(front_fd=None, back_fd=10 + n) for n in range(6)]
    assert not ask(detector, world, 61, make.streams(make.at(61), *held))


def test_sessions_may_go_to_any_port_of_a_server_without_one() -> None:
    mapped = make.server(port=0)
    world = table(make.servers(make.at(0), mapped), make.info_sample(make.at(1)))
    flows = [make.check_flow(10 + n) for n in range(6)]
    assert not ask(CheckLeak(nothing_known), world, 18, make.open_scan(make.at(18), *flows))


def test_it_quotes_what_haproxy_logged_of_these_checks() -> None:
    said = [
        LogLine(make.at(3), make.WORKER, "Health check for server be/s1 failed, reason: timeout"),
        LogLine(make.at(4), make.WORKER, "Health check for server be/s2 failed, reason: timeout"),
    ]
    flows = [make.check_flow(1 + 2 * n) for n in range(6)]
    world = table(*said)
    (finding,) = ask(CheckLeak(nothing_known), world, 20, make.open_scan(make.at(20), *flows))
    assert [one.note for one in finding.evidence if one.what == "log"] == [said[0].text]
