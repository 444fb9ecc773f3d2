"""port-pressure: do the source ports towards one address run out?

Each connection to the same address and port needs another local port of
net.ipv4.ip_local_port_range, also for the minute in TIME_WAIT after this side has ended it.
When none is free, connect() fails with EADDRNOTAVAIL, which HAProxy logs as a resource problem,
with free fds and sessions.

Evidence: open connections per remote address and port, from the targets' totals of all
processes in scope, and those in TIME_WAIT, against the range of the network namespace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hatrace.detectors import forecast, steps, words
from hatrace.detectors.caveats import caveat
from hatrace.detectors.growth import SECOND_NS
from hatrace.detectors.known import Known
from hatrace.detectors.memory import Memory
from hatrace.detectors.port_crowds import Crowd, Remote, crowds
from hatrace.model.finding import (
    Confidence,
    Evidence,
    Finding,
    Forecast,
    Growth,
    Severity,
    Step,
)
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
TIME_WAIT_S = 60
"""TCP_TIMEWAIT_LEN, include/net/tcp.h: fixed."""
FIRST_NS = 2 * SECOND_NS
"""What is in TIME_WAIT so early was there before hatrace, nearly all of it."""


class PortPressure:
    """The detector."""

    slug = "port-pressure"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._limits = thresholds
        self._memory = Memory()
        self._past: dict[Remote, list[tuple[int, int]]] = {}
        self._found: dict[Remote, int] = {}
        """In TIME_WAIT at the first look, within the first minute."""

    def observe(self, world: World) -> Iterable[Finding]:
        crowded = [one for one in crowds(world) if one.used >= self._limits.notice * one.ports]
        self._found = self._still_waiting(world, crowded)
        self._past = {one.remote: self._past.get(one.remote, []) for one in crowded}
        findings = [self._finding(world, one) for one in crowded]
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _finding(self, world: World, one: Crowd) -> Finding:
        rate = self._growth(one.remote, world.now_ns, one.used)
        subject = self._memory.subject(one.where, one.remote[0])
        owner = world.processes.get(one.pid)
        adopted = sum(min(row.adopted, row.open) for row in one.rows)
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=self._severity(one.used / one.ports),
            confidence=Confidence.CERTAIN,
            claim=_claim(world, one),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=one.used,
            preexisting=adopted + self._found.get(one.remote, 0),
            evidence=tuple(_evidence(world, one)),
            growth=rate,
            forecast=self._forecast(one, rate),
            cause=_cause(one),
            ruled_out=tuple(_ruled_out(one)),
            next_steps=tuple(_next_steps(owner, one)),
            verify=(
                Step("the number falls", f"{steps.sockets_to(owner, *one.remote[1:])} | wc -l"),
            ),
            caveat=caveat(
                world,
                "connections of processes out of scope take ports too, and are not counted; each"
                " further source address (`source`) has as many ports",
            ),
        )

    def _still_waiting(self, world: World, crowded: Iterable[Crowd]) -> dict[Remote, int]:
        """Of those that hatrace found, as many as may still wait."""
        age_ns = world.now_ns - world.info.started_ns
        if age_ns <= FIRST_NS:
            return {one.remote: one.waiting for one in crowded}
        if age_ns > TIME_WAIT_S * SECOND_NS:
            return {}
        known = ((one, self._found.get(one.remote, 0)) for one in crowded)
        return {one.remote: min(found, one.waiting) for one, found in known}

    def _forecast(self, one: Crowd, rate: Growth | None) -> Forecast:
        """What is in TIME_WAIT leaves after a minute: then as many come as go."""
        limit = f"source ports to {one.where}"
        ahead = forecast.forecast(limit, one.used, one.ports, rate)
        if not ahead.seconds_left or ahead.seconds_left <= TIME_WAIT_S or not one.mostly_waiting:
            return ahead
        arithmetic = f"each is in TIME_WAIT for {TIME_WAIT_S} s: then as many come as go"
        return Forecast(limit, one.used, one.ports, None, arithmetic)

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


# The wording -------------------------------------------------------------------------------


def _claim(world: World, one: Crowd) -> str:
    owners = ", ".join(
        f"{words.number(row.open)} of {_process(world, row.pid)}" for row in one.rows[:3]
    )
    whose = f" ({one.label})" if one.label else ""
    taken = f"{words.number(one.used)} of {words.number(one.ports)} source ports towards"
    if not one.waiting:
        return f"{taken} {one.where}{whose} are taken by open connections: {owners}"
    if one.waiting == one.used:
        there = "connects there" if one.rows else "has a server there, and nobody else is known"
        return (
            f"{taken} {one.where}{whose} are taken, all by connections in TIME_WAIT, which have no"
            f" owner: {_process(world, one.pid)} {there}"
        )
    return (
        f"{taken} {one.where}{whose} are taken: {words.number(one.waiting)} by connections in"
        f" TIME_WAIT, the others by open ones: {owners}"
    )


def _process(world: World, pid: int) -> str:
    return f"pid {pid} ({world.comm(pid) or 'unknown'})"


def _cause(one: Crowd) -> str:
    if one.mostly_waiting:
        return (
            "more new connections to one address and port than their ports come back: this side"
            f" ends them first, and each port then waits for {TIME_WAIT_S} s"
        )
    return "as many connections at once to one address and port as there are local ports for them"


def _ruled_out(one: Crowd) -> Iterable[str]:
    if one.mostly_waiting:
        yield f"connections that stay: only {words.number(one.used - one.waiting)} are open"
    elif not one.waiting:
        yield "TIME_WAIT: all of these connections are open"


def _evidence(world: World, one: Crowd) -> Iterable[Evidence]:
    for row in one.rows:
        said = world.target_attribution(row)
        yield Evidence(
            what="tcp",
            pid=row.pid or None,
            comm=world.comm(row.pid),
            remote=one.where,
            condition=f"{row.open} open",
            note=f"{said.role.value} {said.label}".strip(),
        )
    if one.waiting:
        yield Evidence(
            what="tcp",
            remote=one.where,
            state="TIME_WAIT",
            condition=f"{one.waiting} waiting",
            note="held by nobody; counted in the kernel at most every five seconds",
        )


def _next_steps(owner: Process | None, one: Crowd) -> Iterable[Step]:
    """``owner``: whose connections most of them are, if it is HAProxy."""
    yield Step("see the range", steps.inside(owner, "sysctl net.ipv4.ip_local_port_range"))
    yield Step(
        "see them by state",
        f"{steps.sockets_to(owner, *one.remote[1:])} | awk 'NR>1{{print $1}}' | sort | uniq -c",
    )
    if one.mostly_waiting:
        reuse = "sysctl -w net.ipv4.tcp_tw_reuse=1"
        yield Step("take ports in TIME_WAIT again after a second", steps.inside(owner, reuse))
    wide = "sysctl -w net.ipv4.ip_local_port_range='1024 65535'"
    yield Step("widen the range: works at once", steps.inside(owner, wide))
    yield Step(
        "in HAProxy: reuse connections (`http-reuse`, `pool-max-conn`), more addresses for the"
        " server, or more source addresses (`source`) on the server line"
    )
