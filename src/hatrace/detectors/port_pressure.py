"""port-pressure: do the source ports towards one address run out?

Each connection to the same address and port needs another local port of
net.ipv4.ip_local_port_range.  When none is free, connect() fails with EADDRNOTAVAIL, which
HAProxy logs as a resource problem, with free fds and sessions.

Evidence: open connections per remote address and port, from the targets' totals of all
processes in scope, against the range.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatrace.detectors import forecast, steps, words
from hatrace.detectors.caveats import caveat
from hatrace.detectors.growth import SECOND_NS
from hatrace.detectors.known import Known
from hatrace.detectors.memory import Memory
from hatrace.model.address import endpoint
from hatrace.model.event import HostCounters, Target
from hatrace.model.finding import Confidence, Evidence, Finding, Growth, Severity, Step
from hatrace.model.topology import Process
from hatrace.model.world import World


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Shares of the port range; each with its reason."""

    notice: float = 0.7
    """The kernel prefers every second port and searches longer from half on (5.x); at 0.7
    each connect() costs visibly more."""
    warning: float = 0.85
    critical: float = 0.97
    window_ns: int = 60 * SECOND_NS
    """Growth is measured over at most this."""


THRESHOLDS = Thresholds()
Remote = tuple[int, bytes, int]
"""Network namespace, address, port."""


class PortPressure:
    """The detector."""

    slug = "port-pressure"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._limits = thresholds
        self._memory = Memory()
        self._past: dict[Remote, list[tuple[int, int]]] = {}

    def observe(self, world: World) -> Iterable[Finding]:
        crowded: dict[Remote, tuple[list[Target], int]] = {}
        for remote, rows in sorted(_by_remote(world).items()):
            ports = _ports(world, remote[0])
            if ports and sum(row.open for row in rows) >= self._limits.notice * ports:
                crowded[remote] = rows, ports
        self._past = {remote: self._past.get(remote, []) for remote in crowded}
        findings = [self._finding(world, remote, *found) for remote, found in crowded.items()]
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _finding(self, world: World, remote: Remote, rows: Sequence[Target], ports: int) -> Finding:
        used = sum(row.open for row in rows)
        where = endpoint(remote[1], remote[2])
        rate = self._growth(remote, world.now_ns, used)
        subject = self._memory.subject(where, remote[0])
        owner = world.processes.get(rows[0].pid)
        share = used / ports
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=self._severity(share),
            confidence=Confidence.CERTAIN,
            claim=_claim(world, where, rows, used, ports),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=used,
            preexisting=sum(min(row.adopted, row.open) for row in rows),
            evidence=tuple(_evidence(world, row) for row in rows),
            growth=rate,
            forecast=forecast.forecast(f"source ports to {where}", used, ports, rate),
            cause=(
                "as many connections at once to one address and port as there are local ports"
                " for them"
            ),
            next_steps=tuple(_next_steps(owner, remote)),
            verify=(Step("the number falls", f"{steps.sockets_to(owner, *remote[1:])} | wc -l"),),
            caveat=caveat(
                world,
                "connections in TIME_WAIT and those of processes out of scope take ports too,"
                " and are not counted; each further source address (`source`) has as many ports",
            ),
        )

    def _growth(self, remote: Remote, now_ns: int, used: int) -> Growth | None:
        past = self._past[remote]
        past.append((now_ns, used))
        while len(past) > 2 and now_ns - past[1][0] >= self._limits.window_ns:
            past.pop(0)
        first_ns, first = past[0]
        if now_ns - first_ns < SECOND_NS:
            return None
        interval_s = (now_ns - first_ns) / SECOND_NS
        return Growth(round((used - first) * 60 / interval_s, 2), round(interval_s, 1))

    def _severity(self, share: float) -> Severity:
        if share >= self._limits.critical:
            return Severity.CRITICAL
        return Severity.WARNING if share >= self._limits.warning else Severity.NOTICE


def _ports(world: World, netns: int) -> int | None:
    """How many local ports connections have in a network namespace; None: not known there."""
    host = network(world, netns)
    if host is None or host.port_low is None or host.port_high is None:
        return None
    return host.port_high - host.port_low + 1


def network(world: World, netns: int) -> HostCounters | None:
    """The counters of a network namespace; those of old captures do not say whose they are."""
    if world.host is not None and world.host.netns is None:
        return world.host
    return world.networks.get(netns)


def _by_remote(world: World) -> dict[Remote, list[Target]]:
    found: dict[Remote, list[Target]] = {}
    for row in sorted(world.targets.values(), key=lambda one: (-one.open, one.pid, one.index)):
        if not row.inbound and row.open > 0:
            found.setdefault((row.netns, row.address, row.port), []).append(row)
    return found


def _claim(world: World, where: str, rows: Sequence[Target], used: int, ports: int) -> str:
    owners = ", ".join(
        f"{words.number(row.open)} of pid {row.pid} ({world.comm(row.pid) or 'unknown'})"
        for row in rows[:3]
    )
    label = world.target_attribution(rows[0]).label
    whose = f" ({label})" if label else ""
    return (
        f"{words.number(used)} of {words.number(ports)} source ports towards {where}{whose} are"
        f" taken by open connections: {owners}"
    )


def _evidence(world: World, row: Target) -> Evidence:
    said = world.target_attribution(row)
    return Evidence(
        what="tcp",
        pid=row.pid or None,
        comm=world.comm(row.pid),
        remote=endpoint(row.address, row.port),
        condition=f"{row.open} open",
        note=f"{said.role.value} {said.label}".strip(),
    )


def _next_steps(owner: Process | None, remote: Remote) -> Iterable[Step]:
    """``owner``: whose connections most of them are, if it is HAProxy."""
    yield Step("see the range", steps.inside(owner, "sysctl net.ipv4.ip_local_port_range"))
    yield Step(
        "see them by state",
        f"{steps.sockets_to(owner, *remote[1:])} | awk 'NR>1{{print $1}}' | sort | uniq -c",
    )
    wide = "sysctl -w net.ipv4.ip_local_port_range='1024 65535'"
    yield Step("widen the range: works at once", steps.inside(owner, wide))
    yield Step(
        "in HAProxy: reuse connections (`http-reuse`, `pool-max-conn`), more addresses for the"
        " server, or more source addresses (`source`) on the server line"
    )
