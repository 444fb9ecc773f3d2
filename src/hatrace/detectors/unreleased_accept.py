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
from statistics import median

from hatrace.detectors import steps, words
from hatrace.detectors.abandoned import THRESHOLDS, Abandoned, Thresholds, checks_of
from hatrace.detectors.caveats import at_least, caveat
from hatrace.detectors.forecast import forecast, severity
from hatrace.detectors.growth import growth
from hatrace.detectors.known import Known
from hatrace.detectors.matching import wrong_ns
from hatrace.detectors.memory import Memory
from hatrace.model.address import printable
from hatrace.model.finding import Confidence, Evidence, Finding, Forecast, Growth, Step
from hatrace.model.flow import Flag, Flow, State
from hatrace.model.world import World

SAMPLE = 20
"""Sockets shown as evidence."""


class UnreleasedAccept:
    """The detector."""

    slug = "unreleased-accept"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._limits = thresholds
        self._memory = Memory()
        self._abandoned = Abandoned(thresholds)

    def observe(self, world: World) -> Iterable[Finding]:
        findings = [
            self._finding(world, pid, port, flows)
            for (pid, port), flows in sorted(self._abandoned.piles(world).items())
        ]
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _finding(self, world: World, pid: int, port: int, flows: Sequence[Flow]) -> Finding:
        came = [wrong_ns(flow) for flow in flows if not flow.preexisting]
        rate = growth(came, world.info.started_ns, world.now_ns)
        ahead = _ahead(world, pid, rate)
        maker = _maker(world, flows, self._limits)
        subject = f"pid {pid} port {port or 'unknown'}"
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=severity(ahead, rate),
            confidence=_confidence(flows),
            claim=_claim(world, pid, flows, rate, ahead),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=len(flows),
            preexisting=sum(flow.preexisting for flow in flows),
            evidence=tuple(_evidence(world, flows[:SAMPLE])),
            growth=rate,
            forecast=ahead,
            cause=f"the application does not close what its peers have ended; {maker}",
            ruled_out=tuple(_ruled_out(flows)),
            next_steps=tuple(_next_steps(pid, port, flows)),
            verify=(
                Step("its sockets become fewer", steps.held_count(pid)),
                Step("and so do those in no table", steps.alloc_minus_inuse()),
            ),
            caveat=caveat(
                world, "" if ahead else "its fd limit is not known: the next steps read it"
            ),
        )


def _confidence(flows: Sequence[Flow]) -> Confidence:
    ghosts = sum(flow.state == State.CLOSE for flow in flows)
    return Confidence.CERTAIN if ghosts == len(flows) else Confidence.LIKELY


def _ahead(world: World, pid: int, rate: Growth | None) -> Forecast | None:
    """The application's own fd limit; ``None`` where it is not known."""
    room = world.rooms.get(pid)
    return forecast(f"fd limit of pid {pid}", *room, rate) if room is not None else None


def _claim(
    world: World, pid: int, flows: Sequence[Flow], rate: Growth | None, ahead: Forecast | None
) -> str:
    states = Counter(State(flow.state) for flow in flows)
    held = ", ".join(f"{words.number(states[one])} in {one.name}" for one in sorted(states))
    name = world.comm(pid) or flows[0].comm or "unknown"
    return words.sentence(
        [
            f"pid {pid} ({name}) keeps {at_least(world)}"
            f"{words.several(len(flows), 'accepted socket')} of {flows[0].local} whose peer is"
            f" gone ({held}; those in CLOSE are not shown by ss)",
            words.grows(rate),
            words.until(ahead) if rate is not None else "",
        ]
    )


def _maker(world: World, flows: Sequence[Flow], limits: Thresholds) -> str:
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
        checks = checks_of(world, flows, limits)
        if checks:
            parts.append(f"the rhythm of HAProxy's checks of {', '.join(checks)}")
    return "; ".join(parts)


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
