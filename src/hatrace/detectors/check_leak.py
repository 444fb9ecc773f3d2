"""check-leak: do health-check sockets outlive their check?

HAProxy runs one check of a server at a time: the next starts only after the socket of the
one before is closed.  So of each check task (a server's health check, its agent check) at
most one socket is held at any moment, however slow, hung or failing the server is.  Sockets
beyond that are held by nobody's wish; a socket is over at the latest when the next starts.

Evidence: open flows with the role check or agent-check, grouped by process, address and
port; the starts of later checks; how many tasks share the address.  One finding tells of all
servers of a backend: they mostly leak alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hatrace.detectors import check_words, forecast
from hatrace.detectors.check_groups import (
    THRESHOLDS,
    Group,
    Held,
    Leak,
    Place,
    Thresholds,
    groups,
    leaks,
)
from hatrace.detectors.check_over import over
from hatrace.detectors.growth import LEAST_NS, growth, total
from hatrace.detectors.halves import Shared
from hatrace.detectors.known import Known, named
from hatrace.detectors.matching import Matcher
from hatrace.detectors.memory import Memory
from hatrace.detectors.quotes import quotes
from hatrace.model.finding import Confidence, Evidence, Finding, Forecast, Growth, Severity
from hatrace.model.flow import Flow, State
from hatrace.model.world import World


class CheckLeak:
    """The detector."""

    slug = "check-leak"

    def __init__(
        self, known: Known, sides: Shared | None = None, thresholds: Thresholds = THRESHOLDS
    ) -> None:
        self._known = known
        self._sides = sides or Shared()
        self._limits = thresholds
        self._memory = Memory()
        self._named: frozenset[Place] = frozenset()

    def observe(self, world: World) -> Iterable[Finding]:
        matcher = Matcher(world)
        flows = self._sides.of(world, matcher).checks
        held = [one for group in groups(world, flows) if (one := self._held(world, group, matcher))]
        rates = {
            pid: total([one.growth for one in held if one.group.pid == pid])
            for pid in {one.group.pid for one in held}
        }
        findings = [self._finding(world, leak, rates[leak.pid], matcher) for leak in leaks(held)]
        self._memory.keep(finding.subject for finding in findings)
        self._named = frozenset(one.group.key for one in held)
        return findings

    def _held(self, world: World, group: Group, matcher: Matcher) -> Held | None:
        flows = over(group, world, matcher, self._limits)
        sure = [one for one in flows if _confidence(world, one) is not Confidence.POSSIBLE]
        if not self._enough(world, group, flows, len(sure)):
            return None
        confidence = min((_confidence(world, one) for one in sure or flows), key=CONFIDENCES.index)
        return Held(group, flows, confidence, _growth(world, group, flows))

    def _enough(self, world: World, group: Group, flows: Sequence[Flow], sure: int) -> bool:
        """Whether so many are a leak; what was named stays named while doubts come and go."""
        limits = self._limits
        if len(flows) == 1:
            age_ns = world.now_ns - flows[0].born_ns
            patience_ns = max(limits.lone_limits * group.limit_ns, limits.lone_least_ns)
            return bool(sure) and not group.shared and age_ns > patience_ns
        known = sure >= limits.least or group.key in self._named
        return len(flows) >= (limits.least if known else limits.least_unsure)

    def _finding(self, world: World, leak: Leak, rate: Growth | None, matcher: Matcher) -> Finding:
        ahead = _ahead(world, leak, rate)
        subject = self._memory.subject(leak.subject, leak.pid)
        process = world.processes.get(leak.pid)
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=_severity(leak, ahead),
            confidence=max((one.confidence for one in leak.places), key=CONFIDENCES.index),
            claim=check_words.claim(world, leak, ahead),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=len(leak.over),
            preexisting=sum(flow.preexisting for flow in leak.over),
            evidence=(
                *_evidence(world, leak, matcher, self._limits.sample),
                *_quotes(world, leak),
            ),
            growth=leak.growth,
            forecast=ahead,
            cause=check_words.cause(leak),
            ruled_out=tuple(check_words.ruled_out(world, leak)),
            known_bug=named(world, process, self._known, self.slug, _signature(leak)),
            next_steps=tuple(check_words.next_steps(world, leak)),
            verify=tuple(check_words.verify(world, leak)),
            caveat=check_words.caveats(world, leak),
        )


CONFIDENCES = (Confidence.POSSIBLE, Confidence.LIKELY, Confidence.CERTAIN)


def _confidence(world: World, flow: Flow) -> Confidence:
    return world.attribution(flow).confidence


def _growth(world: World, group: Group, over: Sequence[Flow]) -> Growth | None:
    """By the starts of those that leaked; the newest held one is the next of their row."""
    came = [flow for flow in over if not flow.preexisting]
    if came:
        came += [flow for flow in group.flows if not flow.preexisting and flow not in over]
    times = [flow.connect_ns or flow.born_ns for flow in came]
    return growth(times, world.info.started_ns, world.now_ns, max(group.interval_ns, LEAST_NS))


def _severity(leak: Leak, ahead: Forecast | None) -> Severity:
    """A single socket is a notice, whatever its rate."""
    if len(leak.over) == 1:
        return Severity.NOTICE
    return forecast.severity(ahead, leak.growth)


def _ahead(world: World, leak: Leak, rate: Growth | None) -> Forecast | None:
    """The fd limit at the rate of all leaks of the process; the ports at each address's own."""
    ports = []
    for one in leak.places:
        used = sum(flow.state != State.CLOSE for flow in one.over)
        ports.append(forecast.ports(world, one.group.endpoint, used, one.growth if used else None))
    return forecast.soonest([forecast.descriptors(world, leak.pid, rate), *ports])


def _evidence(world: World, leak: Leak, matcher: Matcher, sample: int) -> Iterable[Evidence]:
    for flow in leak.sample(sample):
        fds = matcher.fds(flow)
        reason = world.attribution(flow).reason
        yield Evidence.of(flow, world.now_ns, fds[0] if fds else None, note=reason)


def _quotes(world: World, leak: Leak) -> tuple[Evidence, ...]:
    """What HAProxy logged of these checks: their results, and what became of the servers."""
    names = [user.label for user in leak.users]
    return quotes(world, names, {leak.pid}) if names else ()


def _signature(leak: Leak) -> frozenset[str]:
    """What was measured, for the comparison with known bugs."""
    return frozenset({f"check {State(flow.state).name}" for flow in leak.over})
