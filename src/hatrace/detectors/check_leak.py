"""check-leak: do health-check sockets outlive their check?

HAProxy runs one check of a server at a time: the next starts only after the socket of the
one before is closed.  So of each check task (a server's health check, its agent check) at
most one socket is held at any moment, however slow, hung or failing the server is.  Sockets
beyond that are held by nobody's wish; a socket is over at the latest when the next starts.

Evidence: open flows with the role check or agent-check, grouped by process, address and
port; the starts of later checks; how many tasks share the address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatrace.detectors import forecast, steps, words
from hatrace.detectors.caveats import caveat, unreadable
from hatrace.detectors.check_groups import THRESHOLDS, Group, Place, Thresholds, groups, over
from hatrace.detectors.growth import growth, total
from hatrace.detectors.halves import Shared
from hatrace.detectors.known import Known, named
from hatrace.detectors.matching import Matcher
from hatrace.detectors.memory import Memory
from hatrace.model.attribution import Role
from hatrace.model.finding import Confidence, Evidence, Finding, Forecast, Growth, Severity, Step
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Level
from hatrace.model.world import World

NAMED = 10
"""Servers named in full, where several are checked at one address."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A group, which of its sockets are over, and how fast they become more."""

    group: Group
    over: tuple[Flow, ...]
    confidence: Confidence
    growth: Growth | None


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
        found = [leak for group in groups(world, flows) if (leak := self._leak(world, group))]
        rates = {
            pid: total([leak.growth for leak in found if leak.group.pid == pid])
            for pid in {leak.group.pid for leak in found}
        }
        findings = [self._finding(world, leak, rates[leak.group.pid], matcher) for leak in found]
        self._memory.keep(finding.subject for finding in findings)
        self._named = frozenset(leak.group.key for leak in found)
        return findings

    def _leak(self, world: World, group: Group) -> Leak | None:
        flows = over(group, world, self._limits)
        sure = [one for one in flows if _confidence(world, one) is not Confidence.POSSIBLE]
        if not self._enough(world, group, flows, len(sure)):
            return None
        confidence = min((_confidence(world, one) for one in sure or flows), key=CONFIDENCES.index)
        return Leak(group, flows, confidence, _growth(world, group, flows))

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
        group = leak.group
        ahead = _ahead(world, leak, rate)
        subject = self._subject(group)
        process = world.processes.get(group.pid)
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=_severity(leak, ahead),
            confidence=leak.confidence,
            claim=_claim(leak, ahead),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=len(leak.over),
            preexisting=sum(flow.preexisting for flow in leak.over),
            evidence=tuple(_evidence(world, leak, matcher, self._limits.sample)),
            growth=leak.growth,
            forecast=ahead,
            cause=_cause(leak),
            ruled_out=tuple(_ruled_out(world, leak)),
            known_bug=named(world, process, self._known, self.slug, _signature(leak)),
            next_steps=tuple(_next_steps(world, leak)),
            verify=tuple(_verify(world, leak)),
            caveat=_caveat(world, group),
        )

    def _subject(self, group: Group) -> str:
        """``be/s1``; of further processes that leak to the same server, with their pid."""
        label = group.said.label or group.endpoint
        if group.said.role is Role.AGENT:
            label += " agent-check"
        return self._memory.subject(label, group.pid)


CONFIDENCES = (Confidence.POSSIBLE, Confidence.LIKELY, Confidence.CERTAIN)


def _confidence(world: World, flow: Flow) -> Confidence:
    return world.attribution(flow).confidence


def _growth(world: World, group: Group, over: Sequence[Flow]) -> Growth | None:
    """By the starts of those that leaked; the newest held one is the next of their row."""
    came = [flow for flow in over if not flow.preexisting]
    if came:
        came += [flow for flow in group.flows if not flow.preexisting and flow not in over]
    times = [flow.connect_ns or flow.born_ns for flow in came]
    return growth(times, world.info.started_ns, world.now_ns)


# The wording -------------------------------------------------------------------------------


def _severity(leak: Leak, ahead: Forecast | None) -> Severity:
    """A single socket is a notice, whatever its rate."""
    if len(leak.over) == 1:
        return Severity.NOTICE
    return forecast.severity(ahead, leak.growth)


def _claim(leak: Leak, ahead: Forecast | None) -> str:
    group, count = leak.group, len(leak.over)
    kind = "agent-check" if group.said.role is Role.AGENT else "health-check"
    whose = _names(group) or group.said.label or "a server"
    return words.sentence(
        [
            f"pid {group.pid} holds {words.several(count, f'{kind} socket')} of {whose}"
            f" to {group.endpoint} whose checks are over",
            words.grows(leak.growth),
            words.until(ahead) if leak.growth is not None else "",
        ]
    )


def _names(group: Group) -> str:
    """``be/s1``, or ``be/s1, s2, s3``: all servers checked at this address."""
    backends: dict[str, list[str]] = {}
    for server in group.users[:NAMED]:
        backends.setdefault(server.backend, []).append(server.name)
    named = ", ".join(f"{backend}/{', '.join(names)}" for backend, names in backends.items())
    spare = len(group.users) - NAMED
    return f"{named} and {spare} more" if spare > 0 else named


def _ahead(world: World, leak: Leak, rate: Growth | None) -> Forecast | None:
    """The fd limit at the rate of all leaks of the process; the ports at this one's."""
    used = sum(flow.state != State.CLOSE for flow in leak.over)
    return forecast.soonest(
        [
            forecast.descriptors(world, leak.group.pid, rate),
            forecast.ports(world, leak.group.endpoint, used, leak.growth if used else None),
        ]
    )


def _evidence(world: World, leak: Leak, matcher: Matcher, sample: int) -> Iterable[Evidence]:
    reason = leak.group.said.reason
    for flow in leak.over[:sample]:
        fds = matcher.fds(flow)
        yield Evidence.of(flow, world.now_ns, fds[0] if fds else None, note=reason)


STATES = {
    State.ESTABLISHED: "no side closed: the check ended, its socket was left as it was",
    State.CLOSE_WAIT: "the server closed, HAProxy's side did not",
    State.CLOSE: "the connection is gone, only the fd is held (a ghost: ss does not show it)",
    State.FIN_WAIT1: "HAProxy's side shut its sending half, and did not close",
    State.FIN_WAIT2: "HAProxy's side shut its sending half, and did not close",
    State.SYN_SENT: "the connect was never answered, and never given up",
}


def _cause(leak: Leak) -> str:
    counts = Counter(State(flow.state) for flow in leak.over)
    parts = [
        f"{words.number(counts[state])} in {state.name}: {STATES.get(state, 'held')}"
        for state in sorted(counts)
    ]
    return "HAProxy does not close the sockets of its checks; " + "; ".join(parts)


def _ruled_out(world: World, leak: Leak) -> Iterable[str]:
    group = leak.group
    tasks = words.several(group.tasks, "check task")
    yield (
        f"slow, hung or failing checks: {tasks} would hold at most"
        f" {words.several(group.tasks, 'socket')} at a time"
    )
    if group.tasks == 1 and group.latest_start_ns > leak.over[-1].connect_ns:
        yield "a check still running: a later one of the same server has started"
    if not group.shared:
        yield f"sessions (stream-leak): no server takes sessions at {group.endpoint}"
    else:
        yield "sessions (stream-leak): none of these sockets has a client's half"
    unlisted = _unlisted(world, leak)
    if unlisted:
        yield (
            f"HAProxy's own bookkeeping: its show fd does not list fd {unlisted}, which"
            f" pid {group.pid} holds: the leak is below HAProxy, or it has forgotten them"
        )


def _unlisted(world: World, leak: Leak) -> str:
    """Held fds which `show fd` does not have, a few of them."""
    asked = world.descriptors.get(leak.group.pid)
    if asked is None or not asked.complete:
        return ""
    listed = {one.fd for one in asked.descriptors}
    held = [
        one.fd
        for flow in leak.over
        if flow.born_ns < asked.at_ns
        for one in world.holders(flow.inode)
        if one.pid == leak.group.pid
    ]
    missing = sorted(fd for fd in set(held) if fd not in listed)
    return ", ".join(str(fd) for fd in missing[: steps.SAMPLE])


def _signature(leak: Leak) -> frozenset[str]:
    """What was measured, for the comparison with known bugs."""
    return frozenset({f"check {State(flow.state).name}" for flow in leak.over})


def _next_steps(world: World, leak: Leak) -> Iterable[Step]:
    group, pid = leak.group, leak.group.pid
    process = world.processes.get(pid)
    yield Step("see them", steps.sockets_to(process, group.address, group.port))
    yield Step(
        "see what HAProxy takes them for (stops its threads for some ms)",
        steps.ask(world, pid, "show fd"),
    )
    what = "agent" if group.said.role is Role.AGENT else "health"
    stop = "; ".join(f"disable {what} {one.label}" for one in group.users[:NAMED])
    if stop:
        yield Step(
            "stop the growth: no further checks (the servers keep the state they have)",
            steps.ask(world, pid, stop, Level.ADMIN),
        )
    yield Step(
        "or slow it down: a longer `inter` on the server line, then reload; free what is held:"
        f" it goes when pid {pid} exits, so reload and see that the old worker leaves",
        steps.reload(world, pid),
    )


def _verify(world: World, leak: Leak) -> Iterable[Step]:
    group = leak.group
    process = world.processes.get(group.pid)
    listing = steps.sockets_to(process, group.address, group.port)
    yield Step(
        f"no more than {words.several(group.tasks, 'socket')} of pid {group.pid} now and later",
        f"{listing} | grep -c pid={group.pid},",
    )
    yield Step("and no ghosts", steps.rows_of(group.pid, leak.over))


def _caveat(world: World, group: Group) -> str:
    doubt = ""
    if group.said.confidence is not Confidence.CERTAIN:
        doubt = f"taken for checks because: {group.said.reason}"
    return caveat(world, doubt, unreadable(world, "runtime-api"))
