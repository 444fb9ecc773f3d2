"""A finding in few words: the same on the screen and in text lines.

What comes back is escaped: it may go to a terminal as it is.
"""

from __future__ import annotations

from hatrace.model.event import Losses
from hatrace.model.finding import Finding, Forecast, Step
from hatrace.model.world import World
from hatrace.sinks.text import count, duration, escape, growth, plural


def facts(finding: Finding) -> list[str]:
    """How many, how fast, how long until a limit is hit, how sure, for how long."""
    known = [f"{count(finding.count)} held"]
    if finding.preexisting:
        known.append(f"{count(finding.preexisting)} from before hatrace")
    if finding.growth is not None:
        known.append(growth(finding.growth.per_minute))
    if finding.forecast is not None:
        known.append(forecast(finding.forecast))
    known += [str(finding.confidence), f"seen for {duration(age_s(finding))}"]
    return known


def brief_facts(finding: Finding) -> list[str]:
    """The same where there is room for little: how many, how fast, time left."""
    known = [f"{count(finding.count)} held"]
    if finding.growth is not None:
        known.append(growth(finding.growth.per_minute))
    left = time_left(finding)
    return [*known, left] if left else known


def forecast(limit: Forecast) -> str:
    """``fd limit of pid 812: 48 of 1,024, full in 2h10m``."""
    text = f"{escape(limit.limit)}: {count(limit.used)} of {count(limit.maximum)}"
    if limit.used >= limit.maximum > 0:
        return f"{text}, FULL"
    if limit.seconds_left is not None:
        return f"{text}, full in {duration(limit.seconds_left)}"
    return text


def time_left(finding: Finding) -> str:
    """``full in 2h10m``, ``FULL``, or empty when no limit is approached."""
    if finding.forecast is None:
        return ""
    words = forecast(finding.forecast).rpartition(", ")[2]
    return words if words.startswith(("full in ", "FULL")) else ""


def age_s(finding: Finding) -> float:
    """How long hatrace has seen it."""
    return (finding.at_ns - finding.since_ns) / 1e9


def step(todo: Step) -> str:
    """``Reload HAProxy: systemctl reload haproxy``."""
    parts = (todo.text.rstrip(" :") if todo.command else todo.text, todo.command)
    return escape(": ".join(part for part in parts if part))


def next_step(finding: Finding) -> str:
    """The first thing to do; empty if nothing is known to help."""
    return step(finding.next_steps[0]) if finding.next_steps else ""


def processes(world: World) -> str:
    """``worker 812, old worker 640, master 700``; empty if there are none."""
    by_kind: dict[str, list[str]] = {}
    for process in sorted(world.processes.values(), key=lambda one: one.pid):
        pid = f"{process.pid} STOPPED" if process.stopped else str(process.pid)
        by_kind.setdefault(process.kind.value.replace("-", " "), []).append(pid)
    order = ("worker", "standalone", "old worker", "master")
    return ", ".join(f"{kind} {'+'.join(by_kind[kind])}" for kind in order if kind in by_kind)


def versions(world: World) -> tuple[str, ...]:
    """HAProxy's versions on this host, escaped; from its processes, or the capture's header."""
    seen = {process.version for process in world.processes.values() if process.version}
    return tuple(escape(version) for version in sorted(seen) or world.info.haproxy_versions)


def watched(world: World) -> str:
    """What is being watched: ``HAProxy 2.6.12 worker 812, 8 servers, 24 targets``."""
    parts = [" ".join(("HAProxy", *versions(world), processes(world))).rstrip()]
    servers = {server.label for known in world.servers.values() for server in known}
    if not world.processes:
        parts = ["no HAProxy process seen"]
    if servers:
        parts.append(plural(len(servers), "server"))
    parts.append(plural(len(world.targets), "target"))
    return ", ".join(parts)


def losses(lost: Losses) -> str:
    """``0 events``, or ``132 events (ring full 120, targets full 12)``."""
    causes = {
        "ring full": lost.ring_full,
        "flow table full": lost.flows_full,
        "targets full": lost.targets_full,
    }
    named = ", ".join(f"{cause} {count(number)}" for cause, number in causes.items() if number)
    return plural(lost.total, "event") + (f" ({named})" if named else "")
