"""stream-leak: do client or server sockets outlive their stream?

Evidence: sockets of HAProxy's sessions in CLOSE_WAIT (the peer closed, HAProxy did not) or
CLOSE with the fd still held (a ghost, which ss does not show), on which nothing moves and
which nothing explains any more (stream_verdict.py); each matched with its other half, its
fd and HAProxy's `show sess`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hatrace.detectors import forecast, stream_words
from hatrace.detectors.growth import SECOND_NS, growth, total
from hatrace.detectors.halves import Shared, Unit
from hatrace.detectors.known import Known, named
from hatrace.detectors.matching import Matcher, longest_wrong_first, wrong_ns
from hatrace.detectors.memory import Memory
from hatrace.detectors.quotes import quotes
from hatrace.detectors.stream_verdict import SURE, THRESHOLDS, Reason, Thresholds, Verdict, judge
from hatrace.model.finding import Confidence, Evidence, Finding, Forecast, Growth, Severity
from hatrace.model.flow import Flow
from hatrace.model.world import World

SAMPLE = 20
"""Sockets shown as evidence."""
BURST_NS = 5 * SECOND_NS
"""Sessions end in bursts; less than this is no interval to measure a rate over."""


@dataclass(frozen=True, slots=True)
class Group:
    """The leaked sessions of one process and one proxy."""

    pid: int
    proxy: str
    """``backend be`` or ``frontend fe``; ``stopped`` for a process that is."""
    verdicts: tuple[Verdict, ...]
    growth: Growth | None

    @property
    def units(self) -> tuple[Unit, ...]:
        return tuple(verdict.unit for verdict in self.verdicts)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """All sockets, the longest wrong first."""
        found = [flow for unit in self.units for flow in unit.flows]
        return tuple(sorted(found, key=longest_wrong_first))

    @property
    def reasons(self) -> Counter[Reason]:
        return Counter(verdict.reason for verdict in self.verdicts)


class StreamLeak:
    """The detector."""

    slug = "stream-leak"

    def __init__(
        self, known: Known, sides: Shared | None = None, thresholds: Thresholds = THRESHOLDS
    ) -> None:
        self._known = known
        self._sides = sides or Shared()
        self._limits = thresholds
        self._memory = Memory()

    def observe(self, world: World) -> Iterable[Finding]:
        matcher = Matcher(world)
        groups = self._groups(world, matcher)
        rates = {
            pid: total([group.growth for group in groups if group.pid == pid])
            for pid in {group.pid for group in groups}
        }
        findings = [self._finding(world, group, rates[group.pid], matcher) for group in groups]
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _groups(self, world: World, matcher: Matcher) -> list[Group]:
        found: dict[tuple[int, str], list[Verdict]] = {}
        sessions = self._sides.of(world, matcher).sessions
        homes = _homes(world, sessions)
        for unit in sessions:
            verdict = judge(world, unit, matcher, self._limits)
            if verdict is not None:
                proxy = _proxy(world, unit)
                proxy = homes.get((unit.pid, proxy), proxy)
                found.setdefault((unit.pid, proxy), []).append(verdict)
        groups = []
        for (pid, proxy), verdicts in sorted(found.items()):
            enough = self._enough(verdicts)
            if enough:
                groups.append(Group(pid, proxy, tuple(enough), _growth(world, enough)))
        return groups

    def _enough(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Without what is only a pile when there are many of it."""
        piled = sum(verdict.reason is Reason.PILE for verdict in verdicts)
        if piled >= self._limits.pile:
            return list(verdicts)
        return [verdict for verdict in verdicts if verdict.reason is not Reason.PILE]

    def _finding(
        self, world: World, group: Group, rate: Growth | None, matcher: Matcher
    ) -> Finding:
        ahead = _ahead(world, group, rate)
        stopped = is_stopped(world, group.pid)
        process = world.processes.get(group.pid)
        subject = f"pid {group.pid} {group.proxy}"
        flows = group.flows
        signature = stream_words.signature(world, group.units, group.reasons)
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=Severity.WARNING if stopped else forecast.severity(ahead, group.growth),
            confidence=self._confidence(group),
            claim=stream_words.claim(world, group.pid, group.proxy, flows, group.growth, ahead),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=len(flows),
            preexisting=sum(flow.preexisting for flow in flows),
            evidence=(*_evidence(world, group, matcher), *_quotes(world, group)),
            growth=group.growth,
            forecast=ahead,
            cause=stream_words.cause(world, group.pid, group.units, group.reasons),
            ruled_out=tuple(stream_words.ruled_out(world, group.pid, group.units, group.reasons)),
            known_bug=named(world, process, self._known, self.slug, signature),
            next_steps=tuple(stream_words.next_steps(world, group.pid, flows, signature)),
            verify=tuple(stream_words.verify(group.pid, flows)),
            caveat=stream_words.caveats(world, group.pid, group.units, group.reasons),
        )

    def _confidence(self, group: Group) -> Confidence:
        """That of the surest reason; what both peers left is certain by number."""
        order = (Confidence.POSSIBLE, Confidence.LIKELY, Confidence.CERTAIN)
        by_number = group.reasons[Reason.BOTH_GONE] + group.reasons[Reason.FINISHED]
        if by_number >= self._limits.few:
            return Confidence.CERTAIN
        return max((SURE[reason] for reason in group.reasons), key=order.index)


def is_stopped(world: World, pid: int) -> bool:
    """Whether the process cannot let go of anything, because it does not run."""
    process = world.processes.get(pid)
    return process is not None and process.stopped


def _proxy(world: World, unit: Unit) -> str:
    """By the backend where it is known: the server's socket is what leaks first."""
    if is_stopped(world, unit.pid):
        return "stopped"
    if unit.back is not None:
        label = world.attribution(unit.back).label
        return f"backend {label.partition('/')[0]}" if label else "backend unknown"
    label = world.attribution(unit.front).label if unit.front is not None else ""
    return f"frontend {label}" if label else "frontend unknown"


def _homes(world: World, sessions: Iterable[Unit]) -> dict[tuple[int, str], str]:
    """The backend to which most sessions of a process's frontend go that have both halves:
    a client's half that has lost its other is told of there, not as a trouble of its own."""
    seen: dict[tuple[int, str], Counter[str]] = {}
    for unit in sessions:
        if unit.front is not None and unit.back is not None:
            alone = _proxy(world, replace(unit, back=None))
            seen.setdefault((unit.pid, alone), Counter())[_proxy(world, unit)] += 1
    return {key: min(counts, key=lambda one: (-counts[one], one)) for key, counts in seen.items()}


def _growth(world: World, verdicts: Sequence[Verdict]) -> Growth | None:
    """In sockets per minute; each counts from when its connection began to end."""
    times = [
        wrong_ns(flow)
        for verdict in verdicts
        for flow in verdict.unit.flows
        if not flow.preexisting
    ]
    return growth(times, world.info.started_ns, world.now_ns, BURST_NS)


def _ahead(world: World, group: Group, rate: Growth | None) -> Forecast | None:
    """The fd limit at the rate of all leaks of the process; maxconn at its client halves'."""
    sockets = len(group.flows)
    fronts = [unit.front for unit in group.units if unit.front is not None]
    clients = None
    if rate is not None and sockets:
        clients = Growth(round(rate.per_minute * len(fronts) / sockets, 2), rate.interval_s)
    return forecast.soonest(
        [
            forecast.descriptors(world, group.pid, rate),
            forecast.connections(world, group.pid, fronts, clients),
        ]
    )


def _evidence(world: World, group: Group, matcher: Matcher) -> Iterable[Evidence]:
    """The sockets, session by session, the longest wrong first."""
    ordered = sorted(group.verdicts, key=lambda one: [*map(longest_wrong_first, one.unit.flows)])
    shown = [(verdict, flow) for verdict in ordered for flow in verdict.unit.flows]
    for verdict, flow in shown[:SAMPLE]:
        fds = matcher.fds(flow)
        side = "client" if flow is verdict.unit.front else "server"
        said = world.attribution(flow).label
        note = f"{side} side {said}; {verdict.reason.value}; {verdict.word.value}"
        yield Evidence.of(flow, world.now_ns, fds[0] if fds else None, note)


def _quotes(world: World, group: Group) -> tuple[Evidence, ...]:
    """What HAProxy logged of their servers and of the proxy since the first went wrong: a server
    that went down, a limit that was reached."""
    labels = (world.attribution(unit.back).label for unit in group.units if unit.back is not None)
    names = {name for label in labels for name in label.split(", ")}
    names.add(group.proxy.partition(" ")[2])
    first_ns = min(wrong_ns(flow) for flow in group.flows)
    known = sorted(names - {"", "unknown"})
    return quotes(world, known, {group.pid}, first_ns) if known else ()
