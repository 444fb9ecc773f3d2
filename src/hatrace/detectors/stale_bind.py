"""stale-bind: is a port bound by a process that should have left it, and what does that cost?

After a reload the old worker closes its listeners at once and only serves out its sessions.
One that still listens was stopped, was started anew without -sf, or never heard of the reload.
It holds a port that today's configuration may not have; and where it has it, the kernel
shares new connections out to both (SO_REUSEPORT), and the old one's are never served.

Evidence: listening sockets and all processes that hold each, HAProxy's generations, the binds
of the current configuration.  The cause without a listener is in `taken_ports`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatrace.detectors import stale_words, steps, taken_ports
from hatrace.detectors.growth import SECOND_NS
from hatrace.detectors.known import Known, named
from hatrace.detectors.memory import Memory
from hatrace.detectors.reloads import Handovers, current_workers
from hatrace.detectors.stale_listeners import Cause, Stale, stale_listeners
from hatrace.model.finding import Confidence, Finding, Severity, Step
from hatrace.model.topology import Process
from hatrace.model.world import World


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How long a listener may linger; each with its reason."""

    handover_ns: int = 12 * SECOND_NS
    """An old worker closes its listeners when it is told of the reload, within a second; the
    fd tables are listed every five seconds, and the last word may be that old."""
    standing_ns: int = SECOND_NS // 4
    """A listener of the master alone that was there before hatrace, and no new worker for a
    handover's time: seen twice it is none of a reload that has just begun."""
    sample: int = 20


THRESHOLDS = Thresholds()


class StaleBind:
    """The detector."""

    slug = "stale-bind"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._known = known
        self._limits = thresholds
        self._memory = Memory()
        self._first: dict[tuple[int, int], int] = {}
        self._began_ns: int | None = None
        self._handovers = Handovers()

    def observe(self, world: World) -> Iterable[Finding]:
        self._handovers.look(world)
        suspects = list(stale_listeners(world))
        seen = {(one.holder.pid, one.listener.inode) for one in suspects}
        self._first = {key: self._first.get(key, world.now_ns) for key in sorted(seen)}
        by_holder: dict[int, list[Stale]] = {}
        for one in suspects:
            if self._lasts(world, one):
                by_holder.setdefault(one.holder.pid, []).append(one)
        findings = [self._finding(world, found) for _, found in sorted(by_holder.items())]
        self._began_ns = self._began_ns or world.now_ns
        findings += taken_ports.findings(world, self._memory, self.slug, self._began_ns)
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _lasts(self, world: World, one: Stale) -> bool:
        """Longer than a handover takes, by the generations or else by what we saw."""
        first = self._first[one.holder.pid, one.listener.inode]
        if one.cause is Cause.MASTER:
            newest = max((each.started_ns for each in current_workers(world)), default=0)
            settled = world.now_ns - newest >= self._limits.handover_ns
            stood = settled and one.listener.preexisting
            wanted = self._limits.standing_ns if stood else self._limits.handover_ns
            return world.now_ns - first >= wanted
        retired = self._handovers.since_ns(world, one.holder)
        since = retired if retired is not None else first
        return world.now_ns - since >= self._limits.handover_ns + _grace_ns(world, one.holder)

    def _finding(self, world: World, found: Sequence[Stale]) -> Finding:
        holder, cause = found[0].holder, found[0].cause
        subject = f"pid {holder.pid} listening"
        waiting = sum(one.listener.unread_bytes for one in found)
        shared = any(one.wanted for one in found)
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=Severity.CRITICAL
            if shared and (waiting or holder.stopped)
            else Severity.WARNING,
            confidence=Confidence.LIKELY if cause is Cause.GENERATION else Confidence.CERTAIN,
            claim=stale_words.claim(holder, cause, found),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=len(found),
            preexisting=sum(one.listener.preexisting for one in found),
            evidence=tuple(stale_words.evidence(world, found[: self._limits.sample])),
            cause=stale_words.cause(holder, found),
            ruled_out=tuple(stale_words.ruled_out(found)),
            known_bug=named(world, holder, self._known, self.slug, _signature(cause)),
            next_steps=tuple(stale_words.next_steps(world, holder, found)),
            verify=tuple(
                Step(
                    "the port is left, or held by the current worker alone",
                    steps.sockets_listening(holder, one.listener.lport),
                )
                for one in found[:3]
            ),
            caveat=stale_words.caveats(world, found),
        )


def _grace_ns(world: World, holder: Process) -> int:
    """How long it listens on, on purpose, after it was told of a reload (`grace`)."""
    configured = world.configured.get(holder.pid)
    options = configured.options if configured is not None else ()
    said = [option.split()[1] for option in options if option.startswith("grace ")]
    return max((int(ms) * 1_000_000 for ms in said), default=0)


def _signature(cause: Cause) -> frozenset[str]:
    return frozenset({"held by master"} if cause is Cause.MASTER else ())
