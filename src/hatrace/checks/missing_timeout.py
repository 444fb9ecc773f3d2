"""May an idle or half-closed connection stay for ever, or for hours?

Evidence: proxies without `timeout client`, `server` or `connect`; and, where idle sessions may
last long, without `client-fin` or `server-fin`.  A session of which one side has closed lives as
long as the other side's timeout, and `shutdown sessions server` does not reach it in any version
(measured, 2.6 to 3.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hatrace.checks._answer import again, configure, finding, named, reload, several, time
from hatrace.model.finding import Finding, Severity, Step
from hatrace.model.setup import Section, Setup

SLUG = "missing-timeout"
LONG_MS = 30 * 60_000
"""Half-closed sockets that stay half an hour add up, and look like a leak."""
PROPOSED = {
    "client": "50s",
    "server": "50s",
    "connect": "5s",
    "client-fin": "30s",
    "server-fin": "30s",
}


def findings(setup: Setup) -> Iterable[Finding]:
    fronts = [one for one in setup.sections if one.has_front]
    backs = [one for one in setup.sections if one.has_back and one.servers]
    yield from _missing(setup, "client", fronts, "a client that says nothing keeps its socket")
    yield from _missing(setup, "server", backs, "a server that says nothing keeps its session")
    yield from _missing(setup, "connect", backs, "a server that does not answer keeps its session")
    idle_ms = max((_idle_ms(one) for one in setup.sections), default=0)
    if idle_ms >= LONG_MS:
        yield from _half_closed(setup, "client-fin", fronts, idle_ms)
        yield from _half_closed(setup, "server-fin", backs, idle_ms)


def _missing(setup: Setup, name: str, sections: list[Section], harm: str) -> Iterator[Finding]:
    bare = [one for one in sections if not one.timeouts.get(name)]
    if bare:
        yield _finding(
            setup,
            name,
            bare,
            f"no timeout {name} in {named(one.name for one in bare)}: {harm} for ever",
            "HAProxy's default is to wait without end",
        )


def _half_closed(
    setup: Setup, name: str, sections: list[Section], idle_ms: int
) -> Iterator[Finding]:
    bare = [one for one in sections if not one.timeouts.get(name)]
    if bare:
        side = "client" if name == "client-fin" else "server"
        yield _finding(
            setup,
            name,
            bare,
            f"no timeout {name} in {named(one.name for one in bare)}: sessions that the"
            f" {side} has half-closed may stay for {time(idle_ms)}",
            f"half-closed sessions live as long as `timeout tunnel` or `{side}` (the longest here:"
            f" {time(idle_ms)}); `shutdown sessions server` does not reach them in any version",
        )


def _finding(setup: Setup, name: str, bare: list[Section], claim: str, cause: str) -> Finding:
    steps = [
        configure(one.place, f"timeout {name} {PROPOSED[name]}", section=f"{one.kind} {one.name}")
        for one in bare[:3]
    ]
    if len(bare) > len(steps):
        steps = [
            Step(
                f"into `defaults`, for {several(len(bare), 'proxy').replace('proxys', 'proxies')}",
                f"timeout {name} {PROPOSED[name]}",
            )
        ]
    return finding(
        setup,
        SLUG,
        f"timeout {name}",
        Severity.WARNING,
        claim,
        places=[one.places.get(f"timeout {name}") or one.place for one in bare],
        count=len(bare),
        cause=cause,
        next_steps=[*steps, reload(setup)],
        verify=[again(setup)],
        caveat="the value is a proposal: longer than the longest pause that is wanted",
    )


def _idle_ms(section: Section) -> int:
    """How long a session without traffic may last there."""
    tunnel = section.timeouts.get("tunnel", 0) if section.has_back else 0
    client = section.timeouts.get("client", 0) if section.has_front else 0
    server = section.timeouts.get("server", 0) if section.has_back else 0
    return max(tunnel, client, server)
