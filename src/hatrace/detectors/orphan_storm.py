"""orphan-storm: do orphaned sockets come near the kernel's limit?

An orphan is a socket whose owner let go and whose peer does not answer.  Beyond
net.ipv4.tcp_max_orphans the kernel resets them and warns in its log; memory pressure halves
or quarters the limit before.  TIME_WAIT is no orphan and no trouble: it is not counted here.

Evidence: /proc/net/sockstat against the limit; the orphans among the suspects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from hatrace.detectors import forecast, words
from hatrace.detectors.caveats import caveat
from hatrace.detectors.growth import SECOND_NS
from hatrace.detectors.known import Known
from hatrace.detectors.memory import Memory
from hatrace.model.event import HostCounters
from hatrace.model.finding import Confidence, Evidence, Finding, Growth, Severity, Step
from hatrace.model.flow import Condition, Flow, State
from hatrace.model.world import World


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Shares of tcp_max_orphans; each with its reason."""

    notice: float = 0.25
    """The kernel's own check shifts the limit by up to two bits (tcp_check_oom,
    net/ipv4/tcp.c): a quarter is where the first resets may come."""
    warning: float = 0.5
    critical: float = 0.9
    lasts_ns: int = 3 * SECOND_NS
    """Orphans of an ordinary close are gone within a round trip."""
    sample: int = 20


THRESHOLDS = Thresholds()


class OrphanStorm:
    """The detector."""

    slug = "orphan-storm"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._limits = thresholds
        self._memory = Memory()
        self._above_ns: int | None = None
        self._first: tuple[int, int] | None = None

    def observe(self, world: World) -> Iterable[Finding]:
        host = world.host
        if host is None or host.tcp_orphan is None or not host.max_orphans:
            return []
        used, maximum = host.tcp_orphan, host.max_orphans
        if used < self._limits.notice * maximum:
            self._above_ns = self._first = None
            self._memory.keep([])
            return []
        self._above_ns = host.at_ns if self._above_ns is None else self._above_ns
        self._first = self._first or (host.at_ns, used)
        if host.at_ns - self._above_ns < self._limits.lasts_ns:
            return []
        return [self._finding(world, host, used, maximum)]

    def _finding(self, world: World, host: HostCounters, used: int, maximum: int) -> Finding:
        rate = self._growth(host, used)
        orphans = _orphans(world)
        subject = "orphaned sockets"
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=self._severity(used / maximum),
            confidence=Confidence.CERTAIN,
            claim=_claim(used, maximum, orphans),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=used,
            evidence=tuple(
                Evidence.of(flow, world.now_ns, note="let go by its owner, the peer is silent")
                for flow in orphans[: self._limits.sample]
            ),
            growth=rate,
            forecast=forecast.forecast("net.ipv4.tcp_max_orphans", used, maximum, rate),
            cause=_cause(orphans),
            next_steps=tuple(_next_steps()),
            verify=(Step("the count falls", "grep ^TCP: /proc/net/sockstat"),),
            caveat=caveat(world, "orphans of processes out of scope are counted, not listed"),
        )

    def _growth(self, host: HostCounters, used: int) -> Growth | None:
        if self._first is None or host.at_ns - self._first[0] < SECOND_NS:
            return None
        interval_s = (host.at_ns - self._first[0]) / SECOND_NS
        return Growth(round((used - self._first[1]) * 60 / interval_s, 2), round(interval_s, 1))

    def _severity(self, share: float) -> Severity:
        if share >= self._limits.critical:
            return Severity.CRITICAL
        return Severity.WARNING if share >= self._limits.warning else Severity.NOTICE


def _orphans(world: World) -> list[Flow]:
    found = [
        flow for flow in world.open.values() if flow.condition(world.now_ns) is Condition.ORPHAN
    ]
    return sorted(found, key=lambda flow: (flow.released_ns, flow.inode, flow.id))


def _claim(used: int, maximum: int, orphans: list[Flow]) -> str:
    peers = Counter(flow.remote.rpartition(":")[0] for flow in orphans)
    most = sorted(peers.items(), key=lambda item: (-item[1], item[0]))[:3]
    whom = ", ".join(f"{words.number(count)} to {peer}" for peer, count in most)
    return words.sentence(
        [
            f"{words.number(used)} orphaned sockets of at most {words.number(maximum)}",
            f"among those listed {whom}" if whom else "",
        ]
    )


def _cause(orphans: list[Flow]) -> str:
    states = Counter(State(flow.state) for flow in orphans)
    listed = ", ".join(f"{words.number(states[one])} in {one.name}" for one in sorted(states))
    why = "owners closed their sockets, and the peers do not take the rest or do not close"
    return f"{why} ({listed})" if listed else why


def _next_steps() -> Iterable[Step]:
    yield Step(
        "see which peers", "ss -tano state fin-wait-1 state last-ack state closing | head -50"
    )
    yield Step("see whether the kernel resets some", "dmesg | grep -i 'too many orphaned'")
    yield Step(
        "let them go sooner (after 2 retries; kernel default 8)",
        "sysctl -w net.ipv4.tcp_orphan_retries=2",
    )
