"""Do check intervals and timeouts go together, and what do the checks come to?

Evidence: arithmetic over `inter`, `fastinter`, `timeout check`, `timeout connect` and `fall`.
Checks of one server never overlap, so a `timeout check` longer than `inter` does not pile up
sockets; it stretches the interval, and a server that hangs is noticed later than it seems.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hatrace.checks import _rhythm
from hatrace.checks._answer import DAY_MS, again, finding, into, named, reload, several, time
from hatrace.model.address import endpoint
from hatrace.model.finding import Finding, Severity, Step
from hatrace.model.setup import Section, ServerLine, Setup

SLUG = "check-timing"


@dataclass(frozen=True, slots=True)
class Limits:
    """When it is worth a word."""

    short_ms: int = 1000
    """Without `timeout check` an interval below this fails a server for one slow answer."""
    late_ms: int = 60_000
    """A hung server that is served for a minute is an incident of its own."""
    busy_per_day: int = 2 * DAY_MS // 1000
    """Two checks a second to one address: more than HAProxy's defaults for four lines."""


LIMITS = Limits()


def findings(setup: Setup) -> Iterable[Finding]:
    for section in setup.sections:
        for servers in _rhythm.groups(section):
            yield from _rhythm_findings(setup, section, servers)
    yield from _busy(setup)


def _rhythm_findings(
    setup: Setup, section: Section, servers: list[ServerLine]
) -> Iterator[Finding]:
    row = _rhythm.row(section, servers)
    timeout_ms = servers[0].settings.timeout_check_ms
    if timeout_ms is not None and timeout_ms > row.inter_ms and section.check != "tcp":
        yield _stretched(setup, section, servers, timeout_ms)
    elif timeout_ms is None and row.inter_ms < LIMITS.short_ms:
        yield _short(setup, section, servers)
    elif row.down_within_ms > LIMITS.late_ms:
        yield _late(setup, section, servers)


def _stretched(
    setup: Setup, section: Section, servers: list[ServerLine], timeout_ms: int
) -> Finding:
    row = _rhythm.row(section, servers)
    return _one(
        setup,
        section,
        servers,
        Severity.WARNING,
        f"timeout check {time(timeout_ms)} is longer than inter {time(row.inter_ms)}: a server of"
        f" {section.name} that hangs is DOWN after {time(row.down_within_ms)} at worst",
        [into(section, f"timeout check {time(max(1, row.inter_ms // 2))}"), reload(setup)],
    )


def _short(setup: Setup, section: Section, servers: list[ServerLine]) -> Finding:
    row = _rhythm.row(section, servers)
    return _one(
        setup,
        section,
        servers,
        Severity.NOTICE,
        f"no timeout check: inter {time(row.inter_ms)} is the time for connect and answer"
        f" together, {several(row.fall, 'slow answer')} in a row put a server of {section.name}"
        f" DOWN; {row.per_day:,} checks a day for each",
        [
            Step(
                "on these `server` lines (or their default-server), in place of inter", "inter 2s"
            ),
            reload(setup),
        ],
    )


def _late(setup: Setup, section: Section, servers: list[ServerLine]) -> Finding:
    row = _rhythm.row(section, servers)
    fast_ms = max(1, min(row.inter_ms, 1000))
    return _one(
        setup,
        section,
        servers,
        Severity.NOTICE,
        f"a server of {section.name} that hangs gets traffic for"
        f" {time(row.down_within_ms)} at worst",
        [
            into(section, f"default-server fastinter {time(fast_ms)}", "doubts settled faster"),
            into(section, f"timeout check {time(fast_ms)}", "no waiting for a hung answer"),
            reload(setup),
        ],
    )


def _one(
    setup: Setup,
    section: Section,
    servers: list[ServerLine],
    severity: Severity,
    claim: str,
    next_steps: list[Step],
) -> Finding:
    return finding(
        setup,
        SLUG,
        f"{section.kind} {section.name}: {named(server.name for server in servers)}",
        severity,
        claim,
        places=[
            section.places.get("timeout check"),
            *(server.place for server in servers),
        ],
        count=len(servers),
        cause=_arithmetic(section, servers[0]),
        next_steps=next_steps,
        verify=[again(setup)],
    )


def _arithmetic(section: Section, server: ServerLine) -> str:
    """How the worst time until DOWN comes about."""
    row = _rhythm.row(section, [server])
    hang = time(_rhythm.hanging_ms(section, server))
    fast = time(server.settings.fastinter_ms or row.inter_ms)
    rest = f" + {row.fall - 1} x (fastinter {fast} + {hang})" if row.fall > 1 else ""
    return (
        f"inter {time(row.inter_ms)} + a check that hangs {hang}{rest}"
        f" = {time(row.down_within_ms)} until DOWN; {time(row.up_within_ms)} until UP again"
    )


def _busy(setup: Setup) -> Iterator[Finding]:
    """Addresses that many server lines check, each for itself."""
    for (host, port), lines in _by_address(setup).items():
        daily = sum(_rhythm.per_day(_rhythm.inter_ms(server)) for _, server in lines)
        if daily <= LIMITS.busy_per_day:
            continue
        first = f"{lines[0][0].name}/{lines[0][1].name}"
        others = [section for section, _ in lines[1:]]
        yield finding(
            setup,
            SLUG,
            f"checks of {endpoint(host, port)}",
            Severity.NOTICE,
            f"{endpoint(host, port)} is checked {daily:,} times a day, {daily / 86_400:.1f} a"
            f" second, by {several(len(lines), 'server line')}",
            places=[server.place for _, server in lines],
            count=len(lines),
            cause="each check is a connection of its own with a new source port, and stays in"
            " TIME_WAIT where the server closes first",
            next_steps=_fewer(others, first),
            verify=[again(setup)],
        )


def _fewer(others: list[Section], first: str) -> Iterator[Step]:
    if others:
        yield into(
            others[0],
            f"track {first}",
            "one line checks, the others follow; on `server`, in place of check",
        )
    else:
        yield Step("check less often: raise `inter`", "default-server inter 2s")


def _by_address(
    setup: Setup,
) -> dict[tuple[bytes, int], list[tuple[Section, ServerLine]]]:
    found = defaultdict(list)
    for section in setup.sections:
        for server in section.servers:
            own = server.checked and not server.tracks
            if own and server.check_address is not None and server.check_port:
                found[server.check_address, server.check_port].append((section, server))
    return found
