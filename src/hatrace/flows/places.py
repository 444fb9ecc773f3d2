"""Places: what a worker's servers use each address and port for.

A pair may serve sessions, take health checks, agent checks, or all of these, of several
servers.  Servers without a resolved address have no place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from hatrace.model.address import is_unspecified
from hatrace.model.topology import Server

FORMER_PLACES = 256
"""Addresses that servers had before, the latest."""
NAMED_SERVERS = 4
"""So many servers of one place are named."""

Pair = tuple[bytes, int]
"""Address and port."""


@dataclass(frozen=True, slots=True)
class Place:
    """The servers that use one address and port, by what for."""

    sessions: tuple[Server, ...] = ()
    checks: tuple[Server, ...] = ()
    agents: tuple[Server, ...] = ()
    dormant: tuple[Server, ...] = ()
    """Servers with a check address of their own here, whose checks are switched off."""


def check_pair(server: Server) -> Pair | None:
    """Where its health checks go; None where that is unknown."""
    return _pair(server.check_address, server.check_port)


def agent_pair(server: Server) -> Pair | None:
    """Where its agent checks go.

    `show servers state` repeats the check's values for a server without an agent, hence
    the condition.
    """
    return _pair(server.agent_address, server.agent_port) if server.agent_checked else None


def session_pair(server: Server) -> Pair | None:
    """Where its sessions go; port 0 is the port that the client asked for."""
    if server.address is None or is_unspecified(server.address):
        return None
    return server.address, server.port


def _pair(address: bytes | None, port: int) -> Pair | None:
    if address is None or not port or is_unspecified(address):
        return None
    return address, port


class Places:
    """The places of one worker's servers, and those they had in its lists before."""

    def __init__(self, servers: Iterable[Server], before: Places | None = None) -> None:
        self._now: dict[Pair, Place] = {}
        for server in servers:
            self._add(server)
        self._former = self._no_more(before) if before is not None else {}

    def at(self, address: bytes, port: int) -> Place | None:
        """What the address and port are used for now."""
        found, mapped = self._now.get((address, port)), self._now.get((address, 0))
        if found is None or mapped is None:
            return found or mapped
        return replace(found, sessions=(*found.sessions, *mapped.sessions))

    def former(self, address: bytes, port: int) -> Place | None:
        """What a server used them for until it was removed or moved."""
        return self._former.get((address, port))

    def _add(self, server: Server) -> None:
        for field, pair in _uses(server):
            if pair is not None:
                place = self._now.get(pair, Place())
                users: tuple[Server, ...] = getattr(place, field)
                self._now[pair] = replace(place, **{field: (*users, server)})

    def _no_more(self, before: Places) -> dict[Pair, Place]:
        """The places of ``before`` that no server has now, the latest to vanish last."""
        former = {pair: place for pair, place in before._former.items() if pair not in self._now}
        former |= {pair: place for pair, place in before._now.items() if pair not in self._now}
        for pair in list(former)[: max(0, len(former) - FORMER_PLACES)]:
            del former[pair]
        return former


def _uses(server: Server) -> Iterator[tuple[str, Pair | None]]:
    """Each field of `Place` that this server belongs into, and where."""
    yield "sessions", session_pair(server)
    yield "agents", agent_pair(server)
    check = check_pair(server)
    if server.checked:
        yield "checks", check
    elif check != session_pair(server):
        yield "dormant", check


def labels(servers: Iterable[Server]) -> str:
    """``be/s1`` or ``be1/s1, be2/s1``; of many, the first few and how many more."""
    names = list(dict.fromkeys(server.label for server in servers))
    spare = len(names) - NAMED_SERVERS
    return ", ".join(names[:NAMED_SERVERS]) + (f" and {spare} more" if spare > 0 else "")
