"""Can one of HAProxy's own connections take the port that it wants to listen on?

Evidence: a `bind` within net.ipv4.ip_local_port_range that ip_local_reserved_ports does not
spare.  While a connection to a server has that local port, a start with this bind fails with
"Address already in use" (measured), and a deleted port seems bound by a process born later.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatrace.checks._answer import finding, named, several
from hatrace.model.finding import Finding, Severity, Step
from hatrace.model.setup import BindLine, HostFacts, Setup, Unasked

SLUG = "ephemeral-bind"
CONFIG = "/etc/sysctl.d/50-haproxy-ports.conf"
KEY = "net.ipv4.ip_local_reserved_ports"

Range = tuple[int, int]


def findings(setup: Setup) -> Iterable[Finding | Unasked]:
    host = setup.host
    if host.port_low is None or host.port_high is None:
        yield Unasked(SLUG, "net.ipv4.ip_local_port_range of HAProxy's network is not readable")
        return
    binds = [
        (line, found)
        for section in setup.sections
        for line in section.binds
        if (found := exposed(line, host))
    ]
    if binds:
        yield _finding(setup, binds)


def exposed(bind: BindLine, host: HostFacts) -> list[Range]:
    """The ports of a bind that the kernel may give away, as ranges."""
    if not bind.stream or bind.low is None or bind.high is None:
        return []
    low, high = max(bind.low, host.port_low or 0), min(bind.high, host.port_high or 0)
    left = [(low, high)] if low <= high else []
    for taken_low, taken_high in host.reserved_ports:
        left = [part for each in left for part in _without(each, taken_low, taken_high)]
    return left


def _without(ports: Range, low: int, high: int) -> Iterable[Range]:
    if high < ports[0] or low > ports[1]:
        yield ports
        return
    if ports[0] < low:
        yield ports[0], low - 1
    if ports[1] > high:
        yield high + 1, ports[1]


def _finding(setup: Setup, binds: list[tuple[BindLine, list[Range]]]) -> Finding:
    host = setup.host
    ports = sorted({part for _, parts in binds for part in parts})
    total = sum(high - low + 1 for low, high in ports)
    value = ",".join(_written(part) for part in merged([*host.reserved_ports, *ports]))
    return finding(
        setup,
        SLUG,
        f"ports {named(map(_written, ports), 3)}",
        Severity.WARNING,
        f"{several(total, 'port')} to listen on ({named(map(_written, ports))})"
        f" {'lies' if total == 1 else 'lie'} in the ephemeral range"
        f" {host.port_low}-{host.port_high}: a start fails while a connection uses one",
        places=[line.place for line, _ in binds],
        count=total,
        cause="the kernel takes local ports for outgoing connections, health checks among them,"
        " from the same range",
        next_steps=[
            Step("have the kernel spare them, now", f"sysctl -w {KEY}={value}"),
            Step("and after a boot", f"echo '{KEY} = {value}' > {CONFIG}"),
            Step("or listen below that range"),
        ],
        verify=[
            Step("they are listed", f"sysctl {KEY}"),
            Step("no connection has one now", f"ss -tanH '{_filter(ports)}'"),
        ],
        caveat="connections that have one of these ports already keep it until they end",
    )


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Sorted, neighbours and overlaps joined."""
    found: list[Range] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return found


def _written(ports: Range) -> str:
    return f"{ports[0]}" if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"


def _filter(ports: list[Range]) -> str:
    parts = [f"sport >= :{low} and sport <= :{high}" for low, high in ports[:5]]
    return " or ".join(f"( {part} )" for part in parts)
