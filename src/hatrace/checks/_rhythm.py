"""What check settings come to: how often, how soon DOWN, how soon UP.

Source: the configuration manual (`inter`, `timeout check`), and `process_chk_conn` of
src/check.c: one check at a time for each server; the next starts an interval after the last has
ended; while the state is about to change the interval is `fastinter`.  Times until DOWN and UP
compared with a server that stops answering, on 2.2, 2.6, 3.0 and 3.2: equal within 0.1 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hatrace.checks._answer import DAY_MS
from hatrace.model.setup import CheckRow, Section, ServerLine, Setup
from hatrace.model.topology import CheckSettings

INTER_MS = 2000
"""HAProxy's default."""


def rows(setup: Setup) -> Iterator[CheckRow]:
    """One for each backend and different settings in it."""
    for section in setup.sections:
        for servers in groups(section):
            yield row(section, servers)


def groups(section: Section) -> Iterable[list[ServerLine]]:
    """Its checked servers, those with the same settings together."""
    found: dict[tuple[CheckSettings, int, int], list[ServerLine]] = {}
    for server in section.servers:
        if server.checked and not server.tracks:
            key = server.settings, server.rise, server.fall
            found.setdefault(key, []).append(server)
    return found.values()


def row(section: Section, servers: list[ServerLine]) -> CheckRow:
    """The arithmetic of servers with the same settings."""
    server = servers[0]
    fast_ms = server.settings.fastinter_ms or inter_ms(server)
    down_ms = server.settings.downinter_ms or inter_ms(server)
    hang_ms = hanging_ms(section, server)
    return CheckRow(
        backend=section.name,
        servers=len(servers),
        kind=section.check or "?",
        inter_ms=inter_ms(server),
        rise=server.rise,
        fall=server.fall,
        down_within_ms=inter_ms(server) + hang_ms + (server.fall - 1) * (fast_ms + hang_ms),
        up_within_ms=down_ms + (server.rise - 1) * fast_ms,
        per_day=per_day(inter_ms(server)),
    )


def inter_ms(server: ServerLine) -> int:
    return server.settings.inter_ms or INTER_MS


def hanging_ms(section: Section, server: ServerLine) -> int:
    """How long one check of a server that hangs takes.

    Without `timeout check`: `inter`.  With it: to connect, the shorter of `inter` and `timeout
    connect`, then `timeout check` for the answer, if the check waits for one.
    """
    settings, inter = server.settings, inter_ms(server)
    if settings.timeout_check_ms is None or settings.timeout_connect_ms is None:
        return inter
    connect_ms = min(inter, settings.timeout_connect_ms)
    if section.check == "tcp" and not server.encrypted:
        return connect_ms
    return max(connect_ms, settings.timeout_check_ms)


def per_day(interval_ms: int) -> int:
    return DAY_MS // interval_ms if interval_ms else 0
