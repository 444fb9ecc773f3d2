"""stale-worker: named when old workers pile up or should have gone, silent after one reload."""

from __future__ import annotations

from hatrace.detectors.stale_worker import StaleWorker
from hatrace.flows.table import Table
from hatrace.model.finding import Severity
from hatrace.model.topology import Kind, Process
from tests import factories as make
from tests.unit.detectors.worlds import ask, nothing_known, table, text_of


def reloaded(old: int, last_reload: float = -60.0, **fields: object) -> Table:
    """A master after ``old`` reloads ten seconds apart, whose workers all stayed."""
    workers: list[Process] = []
    for n in range(old + 1):
        current = n == old
        workers.append(
            make.process(
                100 + n,
                Kind.WORKER if current else Kind.OLD_WORKER,
                started_ns=make.at(last_reload - 10 * (old - n)),
                reloads=old - n,
                **({} if current else fields),
            )
        )
    master = make.process(make.MASTER, Kind.MASTER, parent_pid=1)
    world = table(make.processes(make.at(0), master, *workers))
    for process in workers:
        world.apply(make.servers(make.at(0), pid=process.pid))
        world.apply(make.configured(make.at(0), pid=process.pid))
    return world


def test_old_workers_that_pile_up_are_named_at_once() -> None:
    world = reloaded(3)
    rows = [make.data_target(n, pid=100 + n, open=2 + n) for n in range(3)]
    (finding,) = ask(StaleWorker(nothing_known), world, 1, make.targets(make.at(1), *rows))
    assert finding.subject == f"old workers of master {make.MASTER}"
    assert finding.count == finding.preexisting == 3
    assert "3 old workers of past reloads are still there" in finding.claim
    assert "pid 100 (3 reloads ago)" in finding.claim
    assert "9 connections to servers keep them" in finding.claim
    assert [one.pid for one in finding.evidence] == [100, 101, 102]
    assert finding.evidence[0].note == "2 connections to be/s1"
    assert finding.severity is Severity.NOTICE


def test_the_oldest_session_of_each_is_named_as_soon_as_it_has_said_so() -> None:
    world = reloaded(2)
    young, old = make.stream(age_ms=1_000), make.stream(source="192.0.2.7:1", age_ms=7_200_000)
    world.apply(make.streams(make.at(1), young, old, pid=100))
    (finding,) = ask(StaleWorker(nothing_known), world, 2)
    assert finding.evidence[0].note == "the oldest session is that of client 192.0.2.7:1, 2.0 h"


def test_one_old_worker_after_a_reload_is_ordinary() -> None:
    world = reloaded(1)
    detector = StaleWorker(nothing_known)
    assert not any(ask(detector, world, second) for second in range(1, 1800, 60))
    assert ask(detector, world, 3600)


def test_a_storm_of_reloads_is_silent_while_workers_leave() -> None:
    detector = StaleWorker(nothing_known)
    for second in range(1, 60):
        workers = [
            make.process(
                200 + n,
                Kind.WORKER if n == second else Kind.OLD_WORKER,
                started_ns=make.at(n),
            )
            for n in range(max(1, second - 10), second + 1)
        ]
        world = table(make.processes(make.at(second), *workers))
        assert not ask(detector, world, second)


def test_hard_stop_after_explains_them_until_it_is_past() -> None:
    world = reloaded(3, last_reload=0.0)
    for pid in (100, 101, 102):
        world.apply(make.configured(make.at(0), pid=pid, hard_stop_after_ms=60_000))
    detector = StaleWorker(nothing_known)
    assert not ask(detector, world, 30)
    (finding,) = ask(detector, world, 66)
    assert finding.severity is Severity.WARNING
    assert "`hard-stop-after` is past" in finding.cause


def test_another_haproxy_of_the_host_is_no_successor() -> None:
    """It was started between an old process and the one which named that after -sf."""
    world = table(
        make.configured(make.at(0), pid=90, hard_stop_after_ms=40_000),
        make.processes(
            make.at(0),
            make.process(90, Kind.OLD_WORKER, parent_pid=1, started_ns=make.at(-900)),
            make.process(95, Kind.STANDALONE, parent_pid=1, config_files=("/b",)),
            make.process(
                99,
                Kind.STANDALONE,
                parent_pid=1,
                started_ns=make.at(-2),
                command_line=("haproxy", "-f", "/a", "-sf", "90"),
            ),
        ),
    )
    assert not ask(StaleWorker(nothing_known), world, 1)
    assert not ask(StaleWorker(nothing_known), world, 40)
    (finding,) = ask(StaleWorker(nothing_known), world, 50)
    assert "`hard-stop-after` is past" in finding.cause


def test_a_stopped_one_is_named_alone() -> None:
    (finding,) = ask(StaleWorker(nothing_known), reloaded(1, stopped=True), 1)
    assert finding.severity is Severity.WARNING
    assert "stopped by a signal" in finding.cause
    assert "kill -CONT 100" in text_of(finding)


def test_the_suspects_that_keep_it_are_evidence() -> None:
    world = reloaded(2)
    flow = make.half_closed(make.client_flow(0))
    (finding,) = ask(StaleWorker(nothing_known), world, 9, make.open_scan(make.at(9), flow))
    assert [one.what for one in finding.evidence] == ["process", "process", "tcp"]
    assert finding.evidence[2].state == "CLOSE_WAIT"


def test_many_are_a_warning() -> None:
    (finding,) = ask(StaleWorker(nothing_known), reloaded(5), 1)
    assert finding.severity is Severity.WARNING


def test_it_resolves_when_they_leave() -> None:
    world, detector = reloaded(3), StaleWorker(nothing_known)
    assert ask(detector, world, 1)
    alone = make.processes(make.at(2), make.process(make.MASTER, Kind.MASTER), make.process(103))
    assert not ask(detector, world, 2, alone)
