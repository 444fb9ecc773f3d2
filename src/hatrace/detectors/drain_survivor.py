"""drain-survivor: does traffic go on to a server that was taken out, and through which worker?

`disable server`, `set server state maint` and `shutdown sessions server` reach the process at
whose socket they are said: the newest.  Old workers go on with their sessions, which no
command there lists or ends.  And sessions that are half-closed or wait for a server
connection survive in the same worker.

Evidence: per worker the open connections to the addresses of servers in maintenance, and to
those that the current configuration no longer has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hatrace.detectors import steps, survivor_words
from hatrace.detectors.caveats import caveat
from hatrace.detectors.growth import SECOND_NS
from hatrace.detectors.known import Known, named
from hatrace.detectors.memory import Memory
from hatrace.detectors.quotes import quotes
from hatrace.detectors.reloads import retired_ns
from hatrace.detectors.survivors import Survivor, survivors
from hatrace.model.finding import Confidence, Finding, Severity, Step
from hatrace.model.world import World


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How long connections may outlive the server's end; each with its reason."""

    settle_ns: int = 5 * SECOND_NS
    """`shutdown sessions` ends them within 70 ms (measured); idle ones of the pool follow."""
    adopted_ns: int = SECOND_NS
    """A server that was out when hatrace came has been out for a while."""
    first_ns: int = 2 * SECOND_NS
    """HAProxy has answered all first questions by then."""
    answer_ns: int = 5 * SECOND_NS
    """So long an old worker is waited for, to say which of its connections have a session."""
    handover_ns: int = 15 * SECOND_NS
    """After a reload the old worker may serve out ordinary sessions."""
    sample: int = 20


THRESHOLDS = Thresholds()


class DrainSurvivor:
    """The detector."""

    slug = "drain-survivor"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._known = known
        self._limits = thresholds
        self._memory = Memory()
        self._first: dict[tuple[int, bytes, int], int] = {}
        self._began: int | None = None

    def observe(self, world: World) -> Iterable[Finding]:
        if not world.servers:
            return []
        self._began = world.now_ns if self._began is None else self._began
        found = list(survivors(world))
        keys = [(one.process.pid, one.address, one.port) for one in found]
        self._first = {key: self._first.get(key, world.now_ns) for key in keys}
        findings = [
            self._finding(world, one)
            for one, key in zip(found, keys, strict=True)
            if self._lasts(world, one, self._first[key])
        ]
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _lasts(self, world: World, one: Survivor, first_ns: int) -> bool:
        seen_ns = world.now_ns - first_ns
        if one.old:
            retired = retired_ns(world, one.process)
            since = min(first_ns, retired) if retired is not None else first_ns
            if not one.told and seen_ns < self._limits.answer_ns:
                return False
            return world.now_ns - since >= self._limits.handover_ns
        early = first_ns - (self._began or first_ns) <= self._limits.first_ns
        adopted = early and one.preexisting == one.count
        return seen_ns >= (self._limits.adopted_ns if adopted else self._limits.settle_ns)

    def _finding(self, world: World, one: Survivor) -> Finding:
        subject = self._memory.subject(f"{one.label} at {one.endpoint}", one.process.pid)
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=Severity.WARNING if one.old or one.born_per_s > 0 else Severity.NOTICE,
            confidence=Confidence.CERTAIN
            if not one.old or not one.elsewhere
            else Confidence.LIKELY,
            claim=survivor_words.claim(one),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=one.count,
            preexisting=one.preexisting,
            evidence=(
                *survivor_words.evidence(world, one, self._limits.sample),
                *quotes(world, [one.label]),
            ),
            cause=survivor_words.cause(one),
            ruled_out=tuple(survivor_words.ruled_out(one)),
            known_bug=named(world, one.process, self._known, self.slug, _signature(one)),
            next_steps=tuple(survivor_words.next_steps(world, one)),
            verify=(
                Step(
                    "no connection of any worker is left",
                    steps.sockets_to(one.process, one.address, one.port),
                ),
            ),
            caveat=caveat(
                world,
                "connections are counted by address: which client is behind each, `show sess` says"
                if not one.flows and not one.streams
                else "",
            ),
        )


def _signature(one: Survivor) -> frozenset[str]:
    marks = {"old worker" if one.old else "same worker"}
    if one.mostly_connecting:
        marks.add("waits for server")
    return frozenset(marks)
