"""orphan-storm: do orphaned sockets come near the kernel's limit?

An orphan is a socket whose owner let go and whose peer does not take the rest.  Beyond
net.ipv4.tcp_max_orphans the kernel resets them and warns in its log; memory pressure halves
or quarters the limit before.  TIME_WAIT is no orphan and no trouble: it is not counted here.

Evidence: /proc/net/sockstat against the limit, and how it grows; the orphans among the
suspects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatrace.detectors import forecast, steps, words
from hatrace.detectors.caveats import caveat
from hatrace.detectors.growth import SECOND_NS
from hatrace.detectors.known import Known
from hatrace.detectors.memory import Memory
from hatrace.model.event import HostCounters
from hatrace.model.finding import (
    Confidence,
    Evidence,
    Finding,
    Forecast,
    Growth,
    Severity,
    Step,
)
from hatrace.model.flow import Condition, Flow, State
from hatrace.model.topology import Process
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
    floor: float = 0.01
    """Below one in a hundred no growth is worth a word."""
    growing_ns: int = 6 * SECOND_NS
    """A storm has gone on for so long, and goes on; the end of a burst has not."""
    latest_ns: int = SECOND_NS * 19 // 10
    """It goes on if there are more than two looks ago."""
    window_ns: int = 30 * SECOND_NS
    """Growth is measured over at most this."""
    stays_s: float = 340.0
    """So long the kernel keeps, by default, an orphan whose peer answers and does not read: it
    tries until 200 ms, doubled at each try, pass 120 s (tcp_probe_timer, net/ipv4/tcp_timer.c;
    measured on 6.18).  One whose peer is gone has a third of that.  More pile up meanwhile."""
    sample: int = 20


LIMIT = "net.ipv4.tcp_max_orphans"
THRESHOLDS = Thresholds()


class OrphanStorm:
    """The detector."""

    slug = "orphan-storm"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._limits = thresholds
        self._memory = Memory()
        self._above_ns: int | None = None
        self._past: list[tuple[int, int]] = []

    def observe(self, world: World) -> Iterable[Finding]:
        host = world.host
        if host is None or host.tcp_orphan is None or not host.max_orphans:
            return []
        self._note(host, host.tcp_orphan, host.max_orphans)
        share = self._share(host, host.tcp_orphan, host.max_orphans)
        if share is None:
            self._memory.keep([])
            return []
        return [self._finding(world, host, host.tcp_orphan, host.max_orphans, share)]

    def _note(self, host: HostCounters, used: int, maximum: int) -> None:
        """Remember since when they are many, and how many they were lately."""
        many = used >= self._limits.notice * maximum
        self._above_ns = (self._above_ns or host.at_ns) if many else None
        if used < self._limits.floor * maximum:
            self._past.clear()
        elif not self._past or self._past[-1][0] != host.at_ns:
            self._past.append((host.at_ns, used))
        while len(self._past) > 2 and host.at_ns - self._past[1][0] >= self._limits.window_ns:
            self._past.pop(0)

    def _share(self, host: HostCounters, used: int, maximum: int) -> float | None:
        """Of the limit: what they take, or will before the first of them go; None: silence."""
        per_s = self._steady_growth(host.at_ns)
        ahead = (used + (per_s or 0) * self._limits.stays_s) / maximum
        foreseen = min(ahead, self._limits.warning)
        if self._above_ns is not None and host.at_ns - self._above_ns >= self._limits.lasts_ns:
            return max(used / maximum, foreseen)
        return foreseen if per_s is not None and ahead >= self._limits.notice else None

    def _steady_growth(self, now_ns: int) -> float | None:
        """Per second: the lower of that over the window and of its latest seconds; None: too
        short, or none."""
        if not self._past or now_ns - self._past[0][0] < self._limits.growing_ns:
            return None
        latest = [one for one in self._past if now_ns - one[0] >= self._limits.latest_ns]
        rates = [
            (self._past[-1][1] - used) * SECOND_NS / (now_ns - at_ns)
            for at_ns, used in (self._past[0], latest[-1])
        ]
        return min(rates) if min(rates) > 0 else None

    def _finding(
        self, world: World, host: HostCounters, used: int, maximum: int, share: float
    ) -> Finding:
        rate = self._growth(host.at_ns, used)
        orphans = _orphans(world)
        subject = "orphaned sockets"
        owner = _owner(world, orphans)
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=self._severity(share),
            confidence=Confidence.CERTAIN,
            claim=_claim(world, used, maximum, orphans),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=used,
            preexisting=sum(flow.preexisting for flow in orphans),
            evidence=tuple(
                Evidence.of(flow, world.now_ns, note=_note(flow))
                for flow in orphans[: self._limits.sample]
            ),
            growth=rate,
            forecast=self._forecast(used, maximum, rate),
            cause=_cause(orphans),
            ruled_out=tuple(_ruled_out(world, host, orphans)),
            next_steps=tuple(_next_steps(owner)),
            verify=(Step("the count falls", "grep ^TCP: /proc/net/sockstat"),),
            caveat=caveat(
                world,
                "orphans of processes out of scope are counted, not listed; by default the kernel"
                f" gives each up after at most {self._limits.stays_s:.0f} s",
            ),
        )

    def _growth(self, now_ns: int, used: int) -> Growth | None:
        if not self._past or now_ns - self._past[0][0] < SECOND_NS:
            return None
        interval_s = (now_ns - self._past[0][0]) / SECOND_NS
        return Growth(round((used - self._past[0][1]) * 60 / interval_s, 2), round(interval_s, 1))

    def _forecast(self, used: int, maximum: int, rate: Growth | None) -> Forecast:
        """Those that come meanwhile take the places of those which the kernel gives up."""
        ahead = forecast.forecast(LIMIT, used, maximum, rate)
        if rate is None or not ahead.seconds_left or ahead.seconds_left <= self._limits.stays_s:
            return ahead
        level = round(used + rate.per_minute / 60 * self._limits.stays_s)
        arithmetic = (
            f"{words.rate(rate.per_minute)} per minute, each given up after at most"
            f" {self._limits.stays_s:.0f} s: up to {words.number(level)} at once"
        )
        return Forecast(LIMIT, used, maximum, None, arithmetic)

    def _severity(self, share: float) -> Severity:
        if share >= self._limits.critical:
            return Severity.CRITICAL
        return Severity.WARNING if share >= self._limits.warning else Severity.NOTICE


def _orphans(world: World) -> list[Flow]:
    found = [
        flow for flow in world.open.values() if flow.condition(world.now_ns) is Condition.ORPHAN
    ]
    return sorted(found, key=lambda flow: (flow.released_ns, flow.inode, flow.id))


def _owner(world: World, orphans: Iterable[Flow]) -> Process | None:
    """The HAProxy process which let go of most of them."""
    counts = Counter(flow.closer or flow.pid for flow in orphans)
    known = [pid for pid, _ in counts.most_common() if pid in world.processes]
    return world.processes[known[0]] if known else None


def _claim(world: World, used: int, maximum: int, orphans: list[Flow]) -> str:
    owners = Counter(_process(world, flow.closer or flow.pid) for flow in orphans)
    peers = Counter(flow.remote.rpartition(":")[0] for flow in orphans)
    return words.sentence(
        [
            f"{words.number(used)} orphaned sockets of at most {words.number(maximum)}",
            f"{words.number(len(orphans))} are listed: let go by {_most(owners)}, towards"
            f" {_most(peers)}"
            if orphans
            else "",
        ]
    )


def _process(world: World, pid: int) -> str:
    return f"pid {pid} ({world.comm(pid) or 'unknown'})" if pid else "an unknown process"


def _most(counted: Counter[str]) -> str:
    """The three most frequent; how often each, unless it is the only one."""
    if len(counted) == 1:
        return next(iter(counted))
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} ({words.number(count)})" for name, count in ordered[:3])


def _note(flow: Flow) -> str:
    if flow.unsent_bytes:
        return f"{words.number(flow.unsent_bytes)} bytes that its peer does not take"
    return "its peer does not answer the end"


def _cause(orphans: list[Flow]) -> str:
    states = Counter(State(flow.state) for flow in orphans)
    listed = ", ".join(f"{words.number(states[one])} in {one.name}" for one in sorted(states))
    why = "owners closed their sockets, and the peers do not take the rest or do not close"
    return f"{why} ({listed})" if listed else why


def _ruled_out(world: World, host: HostCounters, orphans: Sequence[Flow]) -> Iterable[str]:
    yield "sockets that a process forgot: an orphan is in no fd table any more"
    if host.tcp_time_wait is not None:
        yield f"TIME_WAIT: {words.number(host.tcp_time_wait)}, which are counted apart"
    unsent = sum(flow.unsent_bytes > 0 for flow in orphans)
    if orphans and unsent == len(orphans):
        yield "peers that are gone without data to take: each of those listed has unsent bytes"


def _next_steps(owner: Process | None) -> Iterable[Step]:
    see = "ss -tano state fin-wait-1 state last-ack state closing"
    yield Step("see which peers", f"{steps.inside(owner, see)} | head -50")
    yield Step("see whether the kernel resets some", "dmesg | grep -i 'too many orphaned'")
    yield Step(
        "peers that live and do not read: `tcp-ut 30s` on the bind line (for servers on the server"
        " line) ends what was not taken for so long, for connections made after the reload"
    )
    sooner = "sysctl -w net.ipv4.tcp_orphan_retries=2"
    yield Step("peers that are gone: give up after 2 tries (0: 8)", steps.inside(owner, sooner))
