"""How often a server is checked: what its configuration says for the state that it is in.

HAProxy's own rule (`srv_getinter` in include/haproxy/server.h, 2.2 to 3.4): all checks
passed: `inter`; down with no check passed: `downinter`; between: `fastinter`; either
falls back to `inter`, which is 2 s unless configured.
"""

from __future__ import annotations

from typing import NamedTuple

from hatrace.model.topology import Kind, Server

DEFAULT_INTER_MS = 2000


class Rhythm(NamedTuple):
    """An interval and the setting it comes from; None: no check is due."""

    interval_ms: int | None
    name: str


def expected(server: Server, kind: Kind | None, agent: bool = False) -> Rhythm:
    """The interval in force for ``server``, checked by a process of this kind."""
    status = server.status or ""
    if kind is Kind.OLD_WORKER:
        return Rhythm(None, "stopped")
    if status.startswith("MAINT"):
        return Rhythm(None, "maintenance")
    settings = server.settings
    if agent:
        return _agent(server)
    if "/" in status and settings.fastinter_ms is not None:
        return Rhythm(settings.fastinter_ms, "fastinter")
    if status == "DOWN" and settings.downinter_ms is not None:
        return Rhythm(settings.downinter_ms, "downinter")
    if settings.inter_ms is None:
        return Rhythm(DEFAULT_INTER_MS, "default")
    return Rhythm(settings.inter_ms, "inter")


def _agent(server: Server) -> Rhythm:
    """An agent is asked at one interval, whatever it answers."""
    settings = server.settings
    if settings.agent_inter_ms is not None:
        return Rhythm(settings.agent_inter_ms, "agent-inter")
    if settings.inter_ms is not None:
        return Rhythm(settings.inter_ms, "inter")
    return Rhythm(DEFAULT_INTER_MS, "default")


def intervals_ms(server: Server) -> tuple[int, ...]:
    """Every interval that its checks may keep."""
    settings = server.settings
    known = (
        settings.inter_ms or DEFAULT_INTER_MS,
        settings.fastinter_ms,
        settings.downinter_ms,
        settings.agent_inter_ms,
    )
    return tuple(ms for ms in known if ms)
