"""Forecast: when a named limit is hit, with the arithmetic that says so.

The limits are facts from the world: a process's fd limit, HAProxy's maxconn, the ephemeral
ports towards one address, the slots of a command-line socket.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatrace.detectors.words import number, rate, span
from hatrace.model.finding import Forecast, Growth, Severity
from hatrace.model.flow import Flow
from hatrace.model.world import World

SOON_S = 3600.0
"""An hour: less is not enough to find out, decide and change; it is critical."""
NEARLY_FULL = 0.9
"""Of a limit: what is left then is needed by the next burst of healthy traffic."""


def forecast(limit: str, used: int, maximum: int, growth: Growth | None) -> Forecast:
    """The time until ``used`` reaches ``maximum`` at this growth."""
    left = max(maximum - used, 0)
    if growth is None or growth.per_minute <= 0 or not left:
        return Forecast(limit, used, maximum, None if left else 0.0, _state(used, maximum))
    seconds = round(left / growth.per_minute * 60)
    arithmetic = (
        f"({number(maximum)} - {number(used)}) / {rate(growth.per_minute)} per minute"
        f" = {span(seconds)}"
    )
    return Forecast(limit, used, maximum, float(seconds), arithmetic)


def _state(used: int, maximum: int) -> str:
    return f"{number(used)} of {number(maximum)} used"


def descriptors(world: World, pid: int, growth: Growth | None) -> Forecast | None:
    """The fd limit of a process; ``None`` where it is not known."""
    process = world.processes.get(pid)
    if process is None or process.fd_limit is None or process.fd_used is None:
        return None
    return forecast(f"fd limit of pid {pid}", process.fd_used, process.fd_limit, growth)


def connections(
    world: World, pid: int, clients: Iterable[Flow], growth: Growth | None
) -> Forecast | None:
    """HAProxy's global maxconn, as `show info` says; ``None`` where it did not answer, or where
    it did not count the clients that were there then: they take no place of it (any more)."""
    info = world.infos.get(pid)
    if info is None:
        return None
    used, maximum = (info.values.get(name, "") for name in ("CurrConns", "Maxconn"))
    if not used.isdecimal() or not maximum.isdecimal() or not int(maximum):
        return None
    if int(used) < sum(flow.born_ns <= info.at_ns for flow in clients):
        return None
    return forecast(f"maxconn of pid {pid}", int(used), int(maximum), growth)


def ports(world: World, remote: str, used: int, growth: Growth | None) -> Forecast | None:
    """The ephemeral ports towards one remote address and port."""
    host = world.host
    if host is None or host.port_low is None or host.port_high is None:
        return None
    maximum = host.port_high - host.port_low + 1
    return forecast(f"source ports to {remote}", used, maximum, growth)


def soonest(candidates: Iterable[Forecast | None]) -> Forecast | None:
    """The limit that is hit first; else the fullest; ``None`` if none is known."""
    known = [one for one in candidates if one is not None]
    return min(known, key=_urgency, default=None)


def _urgency(one: Forecast) -> tuple[float, float]:
    left = float("inf") if one.seconds_left is None else one.seconds_left
    return left, -one.used / max(one.maximum, 1)


def severity(one: Forecast | None, growth: Growth | None) -> Severity:
    """Critical: the limit is an hour away, or nearly reached by what still grows.

    A leak that grows, or whose growth nobody knows yet, is a warning; one that does not is
    a notice: it costs what it holds, and no more.
    """
    grows = growth is None or growth.per_minute > 0
    if one is not None and grows:
        soon = one.seconds_left is not None and one.seconds_left <= SOON_S
        if soon or one.used >= NEARLY_FULL * one.maximum:
            return Severity.CRITICAL
    return Severity.WARNING if grows else Severity.NOTICE
