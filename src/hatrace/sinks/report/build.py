"""Build a `Report`: a sink that follows a run to its end and then decides what to say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hatrace.model.event import DETAIL, OWN, Action, Event, Finished, Tick, Trouble
from hatrace.model.finding import Change, Finding, FindingChange
from hatrace.model.world import CheckActivity, World
from hatrace.sinks import wording
from hatrace.sinks.live.frame import Frame
from hatrace.sinks.live.state import Folder
from hatrace.sinks.report.content import CheckSummary, Outcome, Report, Span, Summary
from hatrace.sinks.text import count, duration, plural

if TYPE_CHECKING:
    from hatrace.pipeline import Verdict

Keyed = dict[tuple[str, str], Finding]


class Collector:
    """A sink: counts what passes, and remembers what came and went."""

    def __init__(self) -> None:
        self._verdict: Verdict | None = None
        self._resolved: Keyed = {}
        self._actions: list[Action] = []
        self._ticks = self._events = self._finished = 0
        self._less_ns, self._less_since_ns = 0, 0

    def accept(self, event: Event, world: World, verdict: Verdict) -> None:
        self._verdict = verdict
        self._events += 1
        if isinstance(event, Tick):
            self._ticks += 1
        elif isinstance(event, Finished):
            self._finished += len(event.flows)
        elif isinstance(event, Action):
            self._actions.append(event)
        elif isinstance(event, Trouble) and (event.source, event.subject) == (OWN, DETAIL):
            self._detail_changed(event)
        for change in verdict.changes:
            _follow(self._resolved, change, gone=True)

    def _detail_changed(self, event: Trouble) -> None:
        if event.over and self._less_since_ns:
            self._less_ns += event.at_ns - self._less_since_ns
            self._less_since_ns = 0
        elif not event.over:
            self._less_since_ns = self._less_since_ns or event.at_ns

    def report(self, world: World, recorded: Iterable[FindingChange] = ()) -> Report:
        """What the run shows, once it is over; ``recorded``: what was concluded at the time."""
        frame, span = _frame(world, self._verdict), self._span(world)
        known = {finding.key for finding in frame.findings} | self._resolved.keys()
        lost = tuple(one for one in _still_open(recorded) if one.key not in known)
        return Report(
            summary=_summary(frame, world, self._ticks, lost, span),
            info=world.info,
            span=span,
            processes=frame.header.processes,
            haproxy_versions=frame.header.haproxy,
            findings=frame.findings,
            resolved=tuple(self._resolved.values()),
            recorded=lost,
            targets=tuple(sorted(frame.targets, key=lambda row: (-row.held, -row.open, row.name))),
            checks=tuple(
                CheckSummary(row, _results(activity))
                for row, activity in zip(frame.checks, world.checks, strict=True)
            ),
            sockets=frame.sockets,
            actions=tuple(self._actions),
            troubles=frame.troubles,
            losses=world.losses,
            cost=world.cost,
            host_at_start=world.host_at_start,
            host_at_end=world.host,
        )

    def _span(self, world: World) -> Span:
        info = world.info
        going_ns = world.now_ns - self._less_since_ns if self._less_since_ns else 0
        return Span(
            started=datetime.fromtimestamp(info.wall_s(info.started_ns), UTC),
            ended=datetime.fromtimestamp(info.wall_s(world.now_ns), UTC),
            duration_s=(world.now_ns - info.started_ns) / 1e9,
            events=self._events,
            finished_flows=self._finished,
            summary_s=(self._less_ns + going_ns) / 1e9,
        )


def _frame(world: World, verdict: Verdict | None) -> Frame:
    """The last picture of the live view: the report shows the same rows."""
    from hatrace.pipeline import Verdict

    return Folder().fold(world, verdict or Verdict())


def _follow(book: Keyed, change: FindingChange, gone: bool) -> None:
    """Keeps in ``book`` the findings of which the latest news is that they are gone (or not)."""
    if (change.change is Change.RESOLVED) == gone:
        book[change.finding.key] = change.finding
    else:
        book.pop(change.finding.key, None)


def _still_open(recorded: Iterable[FindingChange]) -> list[Finding]:
    found: Keyed = {}
    for change in recorded:
        _follow(found, change, gone=False)
    return list(found.values())


def _results(activity: CheckActivity) -> tuple[str, ...]:
    """``L7OK x9``, in the order in which they first came."""
    seen = Counter(check.result or "?" for check in activity.recent)
    return tuple(result if n == 1 else f"{result} x{n}" for result, n in seen.items())


def _summary(
    frame: Frame, world: World, ticks: int, lost: tuple[Finding, ...], span: Span
) -> Summary:
    watched = frame.header.watched
    findings = (*frame.findings, *lost)
    return Summary(
        outcome=_outcome(findings, ticks),
        sentence=_sentence(findings, ticks, watched, frame.header.elapsed_s),
        watched=watched,
        doubts=tuple(_doubts(frame, world, span)),
    )


def _outcome(findings: tuple[Finding, ...], ticks: int) -> Outcome:
    if findings:
        return Outcome.FINDINGS
    return Outcome.NOTHING_FOUND if ticks else Outcome.NOT_JUDGED


def _sentence(findings: tuple[Finding, ...], ticks: int, watched: str, elapsed_s: float) -> str:
    if findings:
        worst = findings[0]
        head = _how_many(findings)
        return f"{head}{': ' if len(findings) == 1 else '; the worst: '}{worst.claim}"
    if not ticks:
        return "Nothing was judged: the recording ended before its first look (no tick in it)"
    return f"Nothing found in {duration(elapsed_s)} of {watched}"


def _how_many(findings: tuple[Finding, ...]) -> str:
    """``3 findings (1 critical, 2 warning)``."""
    if len(findings) == 1:
        return f"1 finding ({findings[0].severity})"
    by_severity = Counter(finding.severity.value for finding in findings)
    named = ", ".join(f"{n} {severity}" for severity, n in by_severity.items())
    return f"{plural(len(findings), 'finding')} ({named})"


def _doubts(frame: Frame, world: World, span: Span) -> Iterable[str]:
    if world.losses.total:
        yield f"lost {wording.losses(world.losses)}"
    if frame.scan_truncated:
        yield f"{count(frame.scan_truncated)} open sockets found no room in the last scan"
    if span.summary_s:
        yield f"for {duration(span.summary_s)}, flows that ended were only counted"
    if unread := sum(trouble.source != OWN for trouble in frame.troubles):
        yield f"{plural(unread, 'source')} could not be read"
    if spots := len(world.info.blind_spots):
        yield f"rung {world.info.rung} has {plural(spots, 'blind spot')}, see below"
