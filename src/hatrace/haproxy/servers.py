"""A worker's servers, put together from what it says and what its configuration says."""

from __future__ import annotations

from collections.abc import Mapping

from hatrace.haproxy.config_proxy import ConfiguredServer
from hatrace.haproxy.parse import ServerStat, ServerState
from hatrace.model.topology import CheckSettings, Server

NO_STAT = ServerStat(None, False, None, None, None, None, None, None)


def merged(
    states: tuple[ServerState, ...],
    stats: Mapping[str, ServerStat],
    configured: Mapping[str, ConfiguredServer],
) -> tuple[Server, ...]:
    """The servers by the order of `show servers state`; any of the three may lack a server."""
    found = []
    for state in states:
        label = f"{state.backend}/{state.name}"
        found.append(_server(state, stats.get(label, NO_STAT), configured.get(label)))
    return tuple(found)


def configured_only(lines: Mapping[str, ConfiguredServer]) -> tuple[Server, ...]:
    """What the configuration alone says, for a HAProxy that cannot be asked: no status.

    A server whose address is a name has none here.
    """
    return tuple(_server(_as_state(label, line), NO_STAT, line) for label, line in lines.items())


def _as_state(label: str, line: ConfiguredServer) -> ServerState:
    """The line as `show servers state` would begin; `_server` adds what it says of checks."""
    backend, _, name = label.partition("/")
    where = line.address
    return ServerState(
        backend=backend,
        name=name,
        address=where.host if where else None,
        port=(where.low if where else None) or 0,
        checked=line.checked,
        check_address=None,
        check_port=None,
        agent_checked=line.agent_checked,
        agent_address=None,
        agent_port=None,
    )


def _server(state: ServerState, stat: ServerStat, line: ConfiguredServer | None) -> Server:
    """HAProxy's own word first, the configuration where it has none, then what is inherited."""
    check_host = line.check_address.host if line and line.check_address else None
    agent_host = line.agent_address.host if line and line.agent_address else None
    check_port = state.check_port or (line.check_port if line else None)
    agent_port = state.agent_port or (line.agent_port if line else None)
    agent = state.agent_checked
    return Server(
        backend=state.backend,
        name=state.name,
        address=state.address,
        port=state.port,
        check_address=state.check_address or check_host or state.address,
        check_port=check_port or state.port,
        checked=state.checked,
        agent_address=(state.agent_address or agent_host or state.address) if agent else None,
        agent_port=(agent_port or 0) if agent else 0,
        agent_checked=agent,
        mode=stat.mode or (line.mode if line else None),
        backup=stat.backup or bool(line and line.backup),
        status=stat.status,
        check_status=stat.check_status,
        check_duration_ms=stat.check_duration_ms,
        check_fails=stat.check_fails,
        current_sessions=stat.current_sessions,
        idle_connections=stat.idle_connections,
        settings=line.settings if line else CheckSettings(),
    )
