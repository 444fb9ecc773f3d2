"""Target: a server, and every worker that knows it: the current one and those before a reload.

An old worker may know it at another address; a current one may not know it any more.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from hatrace.actions.haproxies import CURRENT, Family, Haproxies, title
from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.haproxy import parse
from hatrace.haproxy.parse import ServerState
from hatrace.haproxy.runtime import NoAnswer, Problem
from hatrace.model.address import endpoint
from hatrace.model.flow import Flow
from hatrace.model.topology import Process

NAME = re.compile(r"[A-Za-z0-9_.:-]+/[A-Za-z0-9_.:-]+")
"""Names as HAProxy takes them (`invalid_char`): nothing in one can end or add a command."""
ADMIN_HELP = (
    "give a command-line socket level admin (stats socket PATH mode 600 level admin), "
    "or start HAProxy with a master's (-W -S PATH)"
)
NO_SOCKET = (Problem.NOT_THERE, Problem.REFUSED, Problem.NO_TARGET)
"""Nobody to ask there."""


@dataclass(frozen=True, slots=True)
class Place:
    """The server, in one worker."""

    process: Process
    address: bytes | None
    """None: it has no IP address (now)."""
    port: int
    """0: any (the client's own port)."""
    status: str | None
    """As `show stat` says; None: not said (old workers of 2.2)."""
    neighbours: frozenset[str]
    """Other servers of that worker at the same address."""

    @property
    def current(self) -> bool:
        return self.process.kind in CURRENT

    def reached_by(self, flow: Flow) -> bool:
        """Whether a flow of that worker goes to the server's address."""
        return flow.raddr == self.address and self.port in (0, flow.rport)


@dataclass(frozen=True, slots=True)
class Target:
    """A server of one HAProxy."""

    label: str
    family: Family
    places: tuple[Place, ...]
    silent: tuple[tuple[Process, NoAnswer], ...]
    """Workers that could not be asked, and why: only the kernel tells of their flows."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where it is or was, to be read."""
        known = {endpoint(p.address, p.port) for p in self.places if p.address is not None}
        return tuple(sorted(known))

    def places_for(self, pid: int) -> tuple[Place, ...]:
        """What worker ``pid`` says; of a silent one, what the others say."""
        own = tuple(place for place in self.places if place.process.pid == pid)
        return own or self.places


def resolve(haproxies: Haproxies, label: str, pid: int | None = None) -> Target:
    """The server that a user means; ``pid``: any process of its HAProxy.

    Raises UsageError for a name nobody knows, or that two HAProxies know.
    """
    if not NAME.fullmatch(label):
        raise UsageError(f"{label!r} is no server", "a server is BACKEND/SERVER", "see: show stat")
    families = _chosen(haproxies, pid)
    asked = [_ask_all(haproxies, family, label) for family in families]
    known = [target for target, _ in asked if target.places]
    if len(known) > 1:
        names = ", ".join(str(target.family) for target in known)
        one = known[0].family.processes[0].pid
        raise UsageError(f"{label} is a server of each of: {names}", "", f"say which: --pid {one}")
    if not known:
        raise _unknown(label, asked)
    if not known[0].endpoints:
        raise EnvironmentLacks(
            f"{label} has no IP address now",
            "its name is not resolved, or it is reached through a UNIX socket",
            "what goes to it cannot be told from other sockets; use HAProxy's own commands",
        )
    return known[0]


def _chosen(haproxies: Haproxies, pid: int | None) -> list[Family]:
    families = [family for family in haproxies.families() if pid is None or pid in family]
    if families:
        return families
    if pid is not None:
        raise UsageError(f"process {pid} is no HAProxy", "", "see: hatrace doctor")
    raise EnvironmentLacks("no HAProxy runs on this host", "no process is named haproxy")


def _ask_all(haproxies: Haproxies, family: Family, label: str) -> tuple[Target, set[str]]:
    """The server in one HAProxy, and the names of all its servers."""
    places: list[Place] = []
    silent: list[tuple[Process, NoAnswer]] = []
    names: set[str] = set()
    for process in family.workers:
        try:
            servers = _servers(haproxies, process)
            names |= servers.keys()
            if label in servers:
                places.append(_place(haproxies, process, label, servers))
        except NoAnswer as error:
            silent.append((process, error))
    return Target(label, family, tuple(places), tuple(silent)), names


def _servers(haproxies: Haproxies, process: Process) -> dict[str, ServerState]:
    """All of one worker, by ``backend/server``; raises NoAnswer."""
    haproxies.identify(process)
    states = parse.servers_state(haproxies.ask(process, "show servers state"))
    return {f"{state.backend}/{state.name}": state for state in states}


def _place(
    haproxies: Haproxies, process: Process, label: str, servers: dict[str, ServerState]
) -> Place:
    server = servers[label]
    same = (
        name
        for name, other in servers.items()
        if name != label
        and other.address == server.address
        and (other.port == server.port or 0 in (other.port, server.port))
    )
    return Place(
        process, server.address, server.port, status(haproxies, process, label), frozenset(same)
    )


def status(haproxies: Haproxies, process: Process, label: str) -> str | None:
    """``UP``, ``MAINT`` ... in one worker; raises NoAnswer."""
    found = parse.stat(haproxies.ask(process, "show stat")).get(label)
    return found.status if found else None


def sessions(haproxies: Haproxies, process: Process, label: str) -> int | None:
    """Its current sessions in one worker; None: not said.  Raises NoAnswer."""
    found = parse.stat(haproxies.ask(process, "show stat")).get(label)
    return found.current_sessions if found else None


def help_for(error: NoAnswer) -> str:
    """What helps against it; another socket only where this one is missing or allows too little,
    not against silence."""
    if error.problem is Problem.DENIED:
        return ADMIN_HELP
    return error.do or (ADMIN_HELP if error.problem in NO_SOCKET else "")


def _unknown(label: str, asked: list[tuple[Target, set[str]]]) -> UsageError | EnvironmentLacks:
    """Nobody knows it, or those who might cannot be asked."""
    silent = [each for target, _ in asked for each in target.silent]
    names = set().union(*(names for _, names in asked))
    if silent and not names:
        process, error = silent[0]
        what = f"{title(process)} cannot be asked for its servers"
        return EnvironmentLacks(what, error.why, help_for(error))
    near = difflib.get_close_matches(label, sorted(names), n=3, cutoff=0.5)
    why = f"no worker on this host knows it; {len(names)} servers are known"
    if silent:
        why += f"; {', '.join(title(process) for process, _ in silent)} could not be asked"
    do = f"did you mean {' or '.join(near)}?" if near else "see: echo 'show stat' | socat ..."
    return UsageError(f"there is no server {label}", why, do)
