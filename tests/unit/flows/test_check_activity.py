"""Health-check activity: each run with its result, the counts, the rhythm beside the plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hatrace.model.event import DETAIL, OWN, CheckResult, Trouble
from hatrace.model.flow import Flag, Flow
from hatrace.model.topology import CheckSettings, Kind, Server
from hatrace.model.world import Check
from tests import factories as f
from tests.unit.flows.support import CERTAIN, LIKELY, POSSIBLE, haproxy, only, said, table

SAME = {"rport": f.SERVICE_PORT, "target": f.DATA_TARGET}


def totals(second: float, **fields: object) -> f.Targets:
    return f.targets(f.at(second), f.target(**fields), f.data_target(), f.client_target())


def results(*runs: Check) -> list[str]:
    return [run.result for run in runs]


# A check address of its own ----------------------------------------------------------------


def test_a_healthy_server() -> None:
    flows = [f.tcp_check(2 * n) for n in range(5)]
    world = table(*haproxy(f.server(check_status=None)), totals(0.5))
    for flow in flows:
        world.apply(f.finished(flow))
    world.apply(totals(9, born=5, gone=5))
    one = only(world)
    assert (one.pid, one.server.label, one.agent, one.sharing) == (f.WORKER, "be/s1", False, 1)
    assert (one.started, one.ended, one.held) == (5, 5, 0)
    assert (one.expected_ms, one.expected_name, one.observed_ms) == (2000, "inter", 2000.0)
    assert said(one.attribution) == ("check", "be/s1", CERTAIN)
    assert [run.at_ns for run in one.recent] == [flow.connect_ns for flow in flows]
    first = one.recent[0]
    assert first == Check(
        at_ns=flows[0].connect_ns,
        duration_ns=1_999_000,
        result="connected",
        local=flows[0].local,
        pid=f.WORKER,
        inode=flows[0].inode,
    )


def test_the_latest_32_runs_stay() -> None:
    world = table(*haproxy(), totals(0.5))
    for n in range(100):
        world.apply(f.finished(f.tcp_check(2 * n)))
    runs = only(world).recent
    assert len(runs) == 32
    assert runs[-1].at_ns == f.at(198) + 1_000


def test_runs_are_in_the_order_of_their_starts() -> None:
    """A check that hung ends after those that were started later."""
    hung = f.ended(f.check_flow(0), after=7)
    world = table(*haproxy(), totals(0.5))
    world.apply(f.finished(f.tcp_check(2), f.tcp_check(4), hung, f.tcp_check(8)))
    starts = [run.at_ns for run in only(world).recent]
    assert starts == sorted(starts)
    assert only(world).recent[0].duration_ns == 7 * 10**9 - 1_000


def test_held_checks_are_counted_by_the_totals_and_shown_from_the_scan() -> None:
    leaked = [f.half_closed(f.check_flow(2 * n)) for n in range(4)]
    world = table(*haproxy(), totals(8, open=4), f.open_scan(f.at(8), *leaked))
    one = only(world)
    assert (one.started, one.ended, one.held) == (4, 0, 4)
    assert one.observed_ms == 2000.0
    assert set(results(*one.recent)) == {"closed by the peer, held"}
    assert all(run.duration_ns is None for run in one.recent)


def test_flows_older_than_hatrace_are_held_but_no_runs() -> None:
    adopted = f.check_flow(0, connect_ns=0, flags=int(Flag.ADOPTED | Flag.CONNECTED))
    world = table(*haproxy(), totals(1, adopted=1), f.open_scan(f.at(1), adopted))
    one = only(world)
    assert (one.started, one.held, one.recent, one.observed_ms) == (0, 1, (), None)
    assert "only checks" in one.attribution.reason


@pytest.mark.parametrize(
    ("flow", "result"),
    [
        (f.tcp_check(1), "connected"),
        (f.http_check(1), "answered"),
        (f.ended(f.check_flow(1, sent_bytes=60), after=2), "no answer"),
        (f.refused(1), "refused"),
        (f.refused(1)._replace(error=110), "timed out"),
        (f.refused(1)._replace(error=0), "not connected"),
        (f.ended(f.check_flow(1), flags=Flag.RST_RECEIVED), "reset by the peer"),
    ],
)
def test_results_by_the_socket_alone(flow: Flow, result: str) -> None:
    world = table(*haproxy(f.server(check_status=None)), totals(0.5), f.finished(flow))
    assert results(*only(world).recent) == [result]


@pytest.mark.parametrize(
    ("state", "result"),
    [(2, "connecting"), (1, "running"), (8, "closed by the peer, held"), (7, "gone, held")],
)
def test_results_of_open_ones(state: int, result: str) -> None:
    world = table(*haproxy(), f.open_scan(f.at(3), f.check_flow(1, state=state)))
    assert results(*only(world).recent) == [result]


# HAProxy's word ----------------------------------------------------------------------------


def test_a_sample_tells_the_result_of_the_last_check_which_ended() -> None:
    world = table(*haproxy(f.server(check_status=None)), totals(0.5))
    world.apply(f.finished(f.tcp_check(1), f.tcp_check(3)))
    world.apply(f.servers(f.at(4), f.server(check_status="L4OK")))
    world.apply(f.finished(f.tcp_check(5)))
    assert results(*only(world).recent) == ["connected", "L4OK", "connected"]


def test_a_sample_may_come_before_the_flow_that_it_tells_of() -> None:
    """The ring is drained on hatrace's own tick."""
    world = table(*haproxy(f.server(check_status=None)), totals(0.5))
    world.apply(f.servers(f.at(4), f.server(check_status="L7STS")))
    world.apply(f.finished(f.http_check(1), f.http_check(3), f.http_check(5)))
    assert results(*only(world).recent) == ["answered", "L7STS", "answered"]


def test_the_trace_tells_each_result() -> None:
    world = table(*haproxy(f.server(check_status=None)), totals(0.5))
    flows = [f.tcp_check(1), f.refused(3), f.tcp_check(5)]
    text = "health-check complete or aborted : [H] SRV=s1 status=0/2 DOWN last=L4CON(8)/FAIL(2)"
    world.apply(CheckResult(flows[1].connect_ns + 500, f.WORKER, "s1", False, text))
    world.apply(f.finished(*flows))
    assert results(*only(world).recent) == ["connected", "L4CON", "connected"]


def test_a_trace_line_of_another_check_or_moment_is_not_taken() -> None:
    world = table(*haproxy(f.server(check_status=None)), totals(0.5))
    flow = f.tcp_check(1)
    start = "starting a new check : [H] SRV=s1 last=L4CON(8)/FAIL(2)"
    done = "health-check complete : [A] SRV=s1 last=L7OKC(5)/OK(3)"
    for pid, name, agent, text in (
        (f.WORKER, "s1", False, start),
        (f.WORKER, "s1", True, done),
        (f.WORKER, "s9", False, done),
        (555, "s1", False, done),
    ):
        world.apply(CheckResult(flow.connect_ns + 500, pid, name, agent, text))
    world.apply(f.finished(flow))
    assert results(*only(world).recent) == ["connected"]


def test_a_traced_name_that_two_backends_have_is_not_taken() -> None:
    other = f.server(backend="other", address="192.0.2.2", check_address="192.0.2.2")
    world = table(*haproxy(f.server(check_status=None), other), totals(0.5))
    flow = f.tcp_check(1)
    text = "health-check complete : [H] SRV=s1 last=L4CON(8)/FAIL(2)"
    world.apply(CheckResult(flow.connect_ns + 500, f.WORKER, "s1", False, text))
    world.apply(f.finished(flow))
    assert results(*world.checks[0].recent) == ["connected"]


# The plan ----------------------------------------------------------------------------------


def test_the_rhythm_follows_the_servers_state() -> None:
    settings = CheckSettings(inter_ms=10_000, fastinter_ms=1000, downinter_ms=5000)
    world = table(*haproxy(f.server(settings=settings)))
    assert (only(world).expected_ms, only(world).expected_name) == (10_000, "inter")
    world.apply(f.servers(f.at(2), f.server(settings=settings, status="UP 2/3")))
    assert (only(world).expected_ms, only(world).expected_name) == (1000, "fastinter")
    world.apply(f.servers(f.at(4), f.server(settings=settings, status="DOWN")))
    assert (only(world).expected_ms, only(world).expected_name) == (5000, "downinter")


def test_the_observed_rhythm_follows_soon() -> None:
    starts = [2.0 * n for n in range(20)] + [38 + 0.5 * n for n in range(1, 10)]
    world = table(*haproxy(), totals(0.5), f.finished(*(f.tcp_check(s) for s in starts)))
    assert only(world).observed_ms == 500.0


def test_nothing_is_said_to_be_missing_before_it_is_due() -> None:
    world = table(*haproxy())
    assert only(world).attribution.reason == "none is due yet"
    assert only(world).started == 0
    assert only(world).observed_ms is None


def test_checks_without_connects() -> None:
    quiet = table(*haproxy(), totals(60), f.servers(f.at(60)))
    assert "out of scope" in only(quiet).attribution.reason
    modern = table(*haproxy(), f.processes(f.at(1), f.process(version="3.2.4")), totals(60))
    assert "check-reuse-pool" in only(modern).attribution.reason
    reused = f.configured(f.at(1), options=("be/s1 check-reuse-pool",))
    assert "check-reuse-pool" in only(table(*haproxy(), reused, totals(60))).attribution.reason
    informed = table(f.servers(f.at(1)), f.info_sample(f.at(1), Version="3.2.0"), totals(60))
    assert "check-reuse-pool" in only(informed).attribution.reason


def test_maintenance_and_old_workers_owe_no_checks() -> None:
    world = table(*haproxy(f.server(status="MAINT")), totals(60))
    assert only(world).expected_ms is None
    assert "maintenance" in only(world).attribution.reason
    old = f.processes(f.at(1), f.process(kind=Kind.OLD_WORKER))
    world = table(*haproxy(), old, totals(60, adopted=1))
    assert only(world).expected_ms is None
    assert not table(*haproxy(), old, totals(60)).checks, "it has not made one either"


def test_unchecked_and_unresolved_servers_have_no_activity() -> None:
    assert not table(*haproxy(f.server(checked=False), f.server(check_address=None))).checks


# Several ------------------------------------------------------------------------------------


def test_servers_with_one_check_address_are_counted_together() -> None:
    """A pair of backends with the same server: their checks look alike."""
    world = table(*haproxy(f.server(), f.server(backend="be2")), totals(0.5))
    starts = sorted([2.0 * n for n in range(6)] + [2.0 * n + 0.7 for n in range(6)])
    world.apply(f.finished(*(f.tcp_check(start) for start in starts)))
    world.apply(totals(12, born=13, gone=12))
    one = only(world)
    assert (one.sharing, one.held, one.observed_ms) == (2, 1, 2000.0)
    assert one.attribution.label == "be/s1, be2/s1"


def test_unlike_words_on_shared_checks_are_nobodys() -> None:
    servers = (f.server(check_status="L4OK"), f.server(backend="be2", check_status="L7OK"))
    world = table(*haproxy(*servers), totals(0.5), f.finished(f.tcp_check(1)))
    world.apply(f.servers(f.at(2), *servers))
    assert results(*only(world).recent) == ["connected"]


def test_health_and_agent_checks_of_one_server() -> None:
    server = f.server(agent_checked=True, agent_address=f.SERVER, agent_port=f.AGENT_PORT)
    agent = f.target(9, port=f.AGENT_PORT, born=2, gone=1)
    world = table(*haproxy(server), f.targets(f.at(1), f.target(born=5, gone=5), agent))
    health, asked = world.checks
    assert (health.agent, health.started, health.attribution.role) == (False, 5, "check")
    assert (asked.agent, asked.held, asked.attribution.role) == (True, 1, "agent-check")


def test_a_reload_is_a_new_start() -> None:
    world = table(*haproxy(), totals(0.5), f.finished(f.tcp_check(0), f.tcp_check(2)))
    world.apply(f.processes(f.at(3), f.process(kind=Kind.OLD_WORKER), f.process(101)))
    world.apply(f.servers(f.at(3), pid=101))
    new = f.target(9, pid=101, born=1, gone=1)
    world.apply(f.targets(f.at(5), f.target(born=3, gone=2), new))
    world.apply(f.finished(f.tcp_check(4, pid=101, target=9)))
    old, now = world.checks
    assert (old.pid, old.held, old.expected_ms, len(old.recent)) == (f.WORKER, 1, None, 2)
    assert (now.pid, now.held, now.expected_ms, len(now.recent)) == (101, 0, 2000, 1)
    world.apply(f.processes(f.at(9), f.process(101)))
    assert only(world).pid == 101


def test_a_late_flow_of_a_gone_worker_brings_nothing_back() -> None:
    world = table(*haproxy(), totals(0.5), f.processes(f.at(3), f.process(101)))
    world.apply(f.finished(f.tcp_check(2)))
    assert not world.checks
    assert not world._checks._runs


def test_one_target_per_network_namespace_is_summed() -> None:
    rows = [f.target(n, netns=n, born=3, gone=2) for n in (5, 6)]
    world = table(*haproxy(), f.targets(f.at(1), *rows))
    assert (only(world).started, only(world).held) == (6, 2)


# Checked where it serves -------------------------------------------------------------------


def same(**fields: object) -> Server:
    return f.same_port_server(**({"check_status": None} | fields))


def test_tcp_checks_among_sessions() -> None:
    world = table(*haproxy(same()), f.targets(f.at(0.5), f.data_target(born=900, gone=800)))
    flows: list[Flow] = []
    for n in range(6):
        flows += [f.ended(f.flow(2 * n + m / 10)) for m in range(1, 10)]
        flows.append(f.tcp_check(2 * n, **SAME))
    world.apply(f.finished(*flows))
    one = only(world)
    assert (one.started, one.ended, one.held, one.observed_ms) == (6, 6, 0, 2000.0)
    assert said(one.attribution) == ("check", "be/s1", LIKELY)
    assert "sessions go there as well" in one.attribution.reason


def test_http_checks_among_sessions_are_counted_once_their_rhythm_is_known() -> None:
    world = table(*haproxy(same(mode="http")), f.targets(f.at(0.5), f.data_target()))
    counted = []
    for n in range(6):
        sessions = [f.http_check(2 * n + m / 10, 200 + 9 * n + m, **SAME) for m in range(1, 4)]
        world.apply(f.finished(*sessions, f.http_check(2 * n, 60, **SAME)))
        counted.append(only(world).started)
    assert counted == [0, 0, 0, 4, 5, 6]
    assert only(world).observed_ms == 2000.0
    assert {run.result for run in only(world).recent} == {"answered"}


def test_leaked_checks_among_sessions() -> None:
    world = table(*haproxy(same()), f.targets(f.at(0.5), f.data_target()))
    leaked = [f.half_closed(f.check_flow(2 * n, **SAME)) for n in range(5)]
    session = f.half_closed(f.flow(3))
    for n in range(1, 6):
        world.apply(f.open_scan(f.at(2 * n), session, *leaked[:n]))
    one = only(world)
    assert (one.started, one.ended, one.held) == (5, 0, 5)
    assert said(one.attribution) == ("check", "be/s1", LIKELY)


def test_sessions_alone_are_no_checks() -> None:
    world = table(*haproxy(same()), f.targets(f.at(0.5), f.data_target(born=50, gone=50)))
    world.apply(f.finished(*(f.ended(f.flow(n / 10)) for n in range(50))))
    one = only(world)
    assert (one.started, one.held, one.recent) == (0, 0, ())
    assert one.attribution.confidence == POSSIBLE


# Summary detail ----------------------------------------------------------------------------


def test_a_summary_has_counts_and_rhythm_without_flows() -> None:
    world = table(*haproxy(), detail="summary")
    for n in range(20):
        world.apply(totals(n, born=n // 2, gone=n // 2))
    one = only(world)
    assert (one.started, one.ended, one.held, one.observed_ms) == (9, 9, 0, 2000.0)
    assert not one.recent


def test_a_summary_says_what_it_cannot_know() -> None:
    world = table(*haproxy(same()), detail="summary")
    leaked = [f.half_closed(f.check_flow(2 * n, **SAME)) for n in range(4)]
    for n in range(1, 5):
        world.apply(f.open_scan(f.at(2 * n), *leaked[:n]))
    assert only(world).held == 4
    assert "not recorded" in only(world).attribution.reason


def test_flows_that_are_only_counted_for_a_while_are_missing_for_so_long() -> None:
    """What hatrace says when it drops detail, and when it takes it up again."""
    world = table(*haproxy(same()))
    leaked = [f.half_closed(f.check_flow(2 * n, **SAME)) for n in range(4)]
    less, reasons = Trouble(f.at(1), OWN, DETAIL, "flows that end are only counted"), []
    for second, over in ((8, False), (9, True)):
        world.apply(replace(less, at_ns=f.at(second), over=over))
        world.apply(f.open_scan(f.at(second), *leaked))
        reasons.append("not recorded" in only(world).attribution.reason)
    assert reasons == [True, False]


# What to watch -----------------------------------------------------------------------------


def test_targets_to_watch_and_from_what_age() -> None:
    settings = CheckSettings(inter_ms=5000, timeout_check_ms=8000, timeout_connect_ms=1000)
    world = table(*haproxy(f.server(settings=settings)), totals(1))
    assert world.check_targets() == {f.CHECK_TARGET: 10**9 // 2}
    world = table(*haproxy(same()), f.targets(f.at(1), f.data_target()))
    assert world.check_targets() == {f.DATA_TARGET: 2 * 10**9}
    world.apply(f.targets(f.at(2), f.data_target(open=100_000)))
    assert not world.check_targets()
