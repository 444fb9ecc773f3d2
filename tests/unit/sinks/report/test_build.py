from __future__ import annotations

from dataclasses import replace

from hatrace.model.event import DETAIL, OWN, Event, Tick, Trouble
from hatrace.model.finding import Change, FindingChange, Severity
from hatrace.sinks.report.build import Collector
from hatrace.sinks.report.content import Outcome, Report
from tests import factories as make
from tests.unit.capture import samples
from tests.unit.sinks.report import story
from tests.unit.sinks.report.conftest import judged


def test_a_leak_is_the_verdict(leaking: Report) -> None:
    assert leaking.summary.outcome is Outcome.FINDINGS
    (finding,) = leaking.findings
    assert (finding.slug, finding.subject) == ("check-leak", "backend be")
    assert leaking.summary.sentence.startswith("1 finding (")
    assert finding.claim in leaking.summary.sentence


def test_doubts_stand_beside_the_verdict(leaking: Report) -> None:
    doubts = "\n".join(leaking.summary.doubts)
    assert "lost 3 events" in doubts
    assert "1 source could not be read" in doubts
    assert "1 blind spot" in doubts


def test_how_long_flows_were_only_counted_is_said() -> None:
    less = Trouble(make.at(10), OWN, DETAIL, "flows that end are only counted")
    over = replace(less, at_ns=make.at(25), over=True)
    report = judged([less, Tick(make.at(12)), over, Tick(make.at(40))])
    assert report.span.summary_s == 15
    assert report.summary.doubts == ("for 15s, flows that ended were only counted",)
    assert judged([less, Tick(make.at(12))]).span.summary_s == 2


def test_nothing_found_says_what_was_looked_at(healthy: Report) -> None:
    assert healthy.summary.outcome is Outcome.NOTHING_FOUND
    assert healthy.summary.sentence.startswith("Nothing found in 39s of HAProxy 2.6.12 worker 100")
    assert healthy.summary.doubts == ()
    assert healthy.findings == healthy.resolved == healthy.recorded == ()


def test_without_a_tick_nothing_was_judged() -> None:
    events: list[Event] = [one for one in story.leaking() if not isinstance(one, Tick)]
    report = judged(events)
    assert report.summary.outcome is Outcome.NOT_JUDGED
    assert "Nothing was judged" in report.summary.sentence


def test_an_empty_capture_makes_a_report() -> None:
    report = judged([])
    assert report.summary.outcome is Outcome.NOT_JUDGED
    assert (report.span.events, report.span.duration_s) == (0, 0)


def test_what_came_and_went_is_kept() -> None:
    end: list[Event] = [make.open_scan(make.at(60)), Tick(make.at(60))]
    report = judged(story.leaking() + end)
    assert report.findings == ()
    assert [one.slug for one in report.resolved] == ["check-leak"]
    assert report.summary.outcome is Outcome.NOTHING_FOUND


def test_the_rows_are_there(leaking: Report) -> None:
    check, server, client = leaking.targets
    assert (check.role, check.held) == ("check", 20)
    assert {server.role, client.role} == {"server", "client"}
    (checks,) = leaking.checks
    assert (checks.row.server, checks.row.held, checks.row.observed_s) == ("be/s1", 20, 2.0)
    assert checks.results[0].endswith("x20")
    (socket,) = leaking.sockets
    assert (socket.used, socket.limit) == (4, 10)
    assert "client has left" in socket.holders
    assert [one.command for one in leaking.actions] == ["hatrace close"]
    assert leaking.span.finished_flows == 1


def test_what_only_the_recording_saw_is_told(healthy: Report) -> None:
    """A capture that shed its detail may not hold what a finding rested on."""
    change = samples.change()
    world = _world(story.healthy())
    collector = Collector()
    report = collector.report(world, [change])
    assert report.recorded == (change.finding,)
    assert report.summary.outcome is Outcome.FINDINGS
    gone = FindingChange(Change.RESOLVED, change.finding)
    assert collector.report(world, [change, gone]).recorded == ()


def _world(events: list[Event]):  # type: ignore[no-untyped-def]
    from hatrace.flows.table import Table

    table = Table(make.info())
    for event in events:
        table.apply(event)
    return table


def test_the_worst_comes_first() -> None:
    events = story.leaking()
    for second in range(50, 80):
        now = make.at(second)
        events += [make.master_connections(now, clients=10, waiting=3), Tick(now)]
    report = judged(events)
    severities = [list(Severity).index(one.severity) for one in report.findings]
    assert len(severities) >= 2
    assert severities == sorted(severities, reverse=True)
    assert f"{len(severities)} findings" in report.summary.sentence
