"""unreleased-accept: does an application keep sockets whose peer has reset or closed them?

A check that connects and resets (HAProxy's plain TCP check, a port scan) leaves the
application a socket that is dead before it is read.  An application which does not notice
keeps its fd: a ghost that ss does not show, one more with each check, until it has no fd left.

Evidence: accepted sockets of processes that are not HAProxy, in CLOSE with the fd held, or in
CLOSE_WAIT without a byte moved for long; who made them, in which rhythm, with which bytes.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from hatrace.detectors import steps, words
from hatrace.detectors.caveats import caveat
from hatrace.detectors.forecast import severity
from hatrace.detectors.growth import SECOND_NS, growth
from hatrace.detectors.known import Known
from hatrace.detectors.matching import quiet_ns, wrong_ns
from hatrace.detectors.memory import Memory
from hatrace.model.address import printable
from hatrace.model.attribution import Role
from hatrace.model.finding import Confidence, Evidence, Finding, Growth, Step
from hatrace.model.flow import Condition, Flag, Flow, State
from hatrace.model.topology import Server
from hatrace.model.world import World


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How long, how many; each with its reason."""

    ghost_ns: int = 5 * SECOND_NS
    """An event loop sees a reset within milliseconds, a blocked thread at its next read."""
    adopted_ns: int = SECOND_NS
    """What was dead when hatrace came needs one more look."""
    half_closed_ns: int = 60 * SECOND_NS
    """An application may answer a half-closed client late; a minute without a byte is long."""
    least: int = 3
    """Fewer may be requests in work whose client gave up."""
    rhythm: float = 0.25
    """A check's distance may differ by so much of its interval."""
    sample: int = 20


THRESHOLDS = Thresholds()


class UnreleasedAccept:
    """The detector."""

    slug = "unreleased-accept"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._limits = thresholds
        self._memory = Memory()

    def observe(self, world: World) -> Iterable[Finding]:
        piles: dict[tuple[int, int], list[Flow]] = {}
        for flow in world.open.values():
            if self._is_dead(world, flow):
                piles.setdefault((flow.pid, flow.lport), []).append(flow)
        findings = [
            self._finding(world, pid, port, sorted(flows, key=_age))
            for (pid, port), flows in sorted(piles.items())
            if len(flows) >= self._limits.least
        ]
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _is_dead(self, world: World, flow: Flow) -> bool:
        """Whether an application holds an accepted socket whose peer is gone."""
        if not flow.held or not flow.flags & Flag.ACCEPTED or flow.pid in world.processes:
            return False
        condition, quiet = flow.condition(world.now_ns), quiet_ns(flow, world.now_ns)
        if condition is Condition.GHOST:
            limit = self._limits.adopted_ns if flow.preexisting else self._limits.ghost_ns
        elif flow.state == State.CLOSE_WAIT:
            limit = self._limits.half_closed_ns
        else:
            return False
        return quiet >= limit and world.attribution(flow).role is Role.APPLICATION

    def _finding(self, world: World, pid: int, port: int, flows: Sequence[Flow]) -> Finding:
        came = [wrong_ns(flow) for flow in flows if not flow.preexisting]
        rate = growth(came, world.info.started_ns, world.now_ns)
        maker = _maker(world, flows, self._limits.rhythm)
        subject = f"pid {pid} port {port or 'unknown'}"
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=severity(None, rate),
            confidence=_confidence(flows),
            claim=_claim(world, pid, flows, rate),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=len(flows),
            preexisting=sum(flow.preexisting for flow in flows),
            evidence=tuple(_evidence(world, flows[: self._limits.sample])),
            growth=rate,
            cause=f"the application does not close what its peers have ended; {maker}",
            ruled_out=tuple(_ruled_out(flows)),
            next_steps=tuple(_next_steps(pid, port, flows)),
            verify=(
                Step("its sockets become fewer", steps.held_count(pid)),
                Step("and so do those in no table", steps.alloc_minus_inuse()),
            ),
            caveat=caveat(world, "its fd limit is not sampled: the next steps read it"),
        )


def _age(flow: Flow) -> tuple[int, int, int]:
    return wrong_ns(flow), flow.inode, flow.id


def _confidence(flows: Sequence[Flow]) -> Confidence:
    ghosts = sum(flow.state == State.CLOSE for flow in flows)
    return Confidence.CERTAIN if ghosts == len(flows) else Confidence.LIKELY


def _claim(world: World, pid: int, flows: Sequence[Flow], rate: Growth | None) -> str:
    states = Counter(State(flow.state) for flow in flows)
    held = ", ".join(f"{words.number(states[one])} in {one.name}" for one in sorted(states))
    name = world.comm(pid) or flows[0].comm or "unknown"
    return words.sentence(
        [
            f"pid {pid} ({name}) keeps {words.several(len(flows), 'accepted socket')} of"
            f" {flows[0].local} whose peer is gone ({held}; those in CLOSE are not shown by ss)",
            words.grows(rate),
        ]
    )


def _maker(world: World, flows: Sequence[Flow], rhythm: float) -> str:
    """Who made these connections: a check of HAProxy, by address, bytes and rhythm, or not."""
    silent = sum(not flow.received_bytes and not flow.sent_bytes for flow in flows)
    peers = Counter(printable(flow.raddr) for flow in flows)
    most = ", ".join(
        f"{words.number(count)} from {peer}"
        for peer, count in sorted(peers.items(), key=lambda item: (-item[1], item[0]))[:3]
    )
    parts = [f"{most}; {words.number(silent)} of {words.number(len(flows))} carried no byte"]
    births = sorted(flow.born_ns for flow in flows if not flow.preexisting)
    gaps = [later - earlier for earlier, later in itertools.pairwise(births)]
    if len(gaps) >= 3:
        gap_ms = median(gaps) / 1_000_000
        parts.append(f"one every {words.milliseconds(round(gap_ms))}")
        checks = _checks_of(world, flows[0], gap_ms, rhythm)
        if checks:
            parts.append(f"the rhythm of HAProxy's checks of {', '.join(checks)}")
    return "; ".join(parts)


def _checks_of(world: World, flow: Flow, gap_ms: float, rhythm: float) -> list[str]:
    """Servers whose checks go to this socket's local end, in about this rhythm."""
    found = []
    for one in world.checks:
        fits = one.expected_ms and abs(gap_ms - one.expected_ms) <= rhythm * one.expected_ms
        if fits and _checked_at(one.server, flow):
            found.append(one.server.label)
    return sorted(set(found))


def _checked_at(server: Server, flow: Flow) -> bool:
    return (server.check_address, server.check_port) == (flow.laddr, flow.lport)


def _evidence(world: World, flows: Sequence[Flow]) -> Iterable[Evidence]:
    for flow in flows:
        held = [one.fd for one in world.holders(flow.inode) if one.pid == flow.pid]
        how = "reset by its peer" if flow.flags & Flag.RST_RECEIVED else "closed by its peer"
        yield Evidence.of(flow, world.now_ns, min(held, default=None), how)


def _ruled_out(flows: Sequence[Flow]) -> Iterable[str]:
    unread = sum(flow.unread_bytes > 1 for flow in flows)
    if not unread:
        yield "requests still in work: nothing is unread on these sockets"
    yield "slow clients: their side of the connection is gone"


def _next_steps(pid: int, port: int, flows: Sequence[Flow]) -> Iterable[Step]:
    yield Step("see which fds these are", steps.files_of(pid, (flow.inode for flow in flows)))
    yield Step(
        "how many fds are left: limit, and used",
        f"grep 'open files' /proc/{pid}/limits; ls /proc/{pid}/fd | wc -l",
    )
    yield Step(
        "stop the growth: let HAProxy check on a level at which the application answers"
        " (`option httpchk`, `tcp-check expect`) instead of connect and reset"
    )
    yield Step("free what is held: restart the application; the cure is its next release")
