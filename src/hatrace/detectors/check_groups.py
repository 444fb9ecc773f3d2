"""Check sockets by process, address and port, and what leaks of them by backend."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatrace.detectors.growth import total
from hatrace.model.address import endpoint
from hatrace.model.attribution import Attribution, Role
from hatrace.model.finding import Confidence, Growth
from hatrace.model.flow import Flow, oldest_first
from hatrace.model.topology import Server
from hatrace.model.world import World


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What it takes; each with its reason."""

    least: int = 2
    """Sockets beyond one per task.  One alone may be a scan that met the old and the new."""
    least_unsure: int = 4
    """The same where the role itself is a guess (sessions go to the same address)."""
    order_ns: int = 1_000_000
    """A later check starts at least this much later; closer starts are other tasks'."""
    default_inter_ms: int = 2_000
    """HAProxy's `inter` where none is configured (configuration manual, 5.2)."""
    lone_limits: int = 10
    """One single socket is named after this many times the longest time a check may take:
    by then so many later checks have come that no timeout explains it."""
    lone_least_ns: int = 60_000_000_000
    """And not before a minute: a lone socket costs little, a false word costs trust."""
    asked_ns: int = 15_000_000_000
    """`show sess` is read every five seconds while there are suspects, later if HAProxy is
    busy; after that time it may not be read, or has too many sessions to be."""
    sample: int = 20
    """Sockets shown as evidence."""


THRESHOLDS = Thresholds()


Place = tuple[int, bytes, int]
"""Process, remote address, port."""


@dataclass(frozen=True, slots=True)
class Group:
    """The check sockets of one process to one address and port."""

    pid: int
    address: bytes
    port: int
    flows: tuple[Flow, ...]
    """Oldest first."""
    said: Attribution
    """The least sure of theirs."""
    tasks: int
    limit_ns: int
    """The longest time that a check here may take."""
    interval_ns: int
    """The shortest distance of two checks of one server here."""
    latest_start_ns: int
    users: tuple[Server, ...]
    """The servers that are checked there."""
    servers: tuple[Server, ...]
    """These, and those that take sessions there."""

    @property
    def key(self) -> Place:
        return self.pid, self.address, self.port

    @property
    def endpoint(self) -> str:
        return endpoint(self.address, self.port)

    @property
    def shared(self) -> bool:
        """Whether sessions go to the same address and port."""
        return any(takes(one, self.key) for one in self.servers)


@dataclass(frozen=True, slots=True)
class Held:
    """A group, which of its sockets are over, and how fast they become more."""

    group: Group
    over: tuple[Flow, ...]
    confidence: Confidence
    growth: Growth | None


@dataclass(frozen=True, slots=True)
class Leak:
    """What one process holds of a backend's checks: all addresses together."""

    pid: int
    backend: str
    """Several, if they share a check address; an endpoint, if it is not known."""
    agent: bool
    places: tuple[Held, ...]

    @property
    def subject(self) -> str:
        """The same whichever and how many of its servers leak."""
        return f"{self.backend} agent-checks" if self.agent else self.backend

    @property
    def over(self) -> tuple[Flow, ...]:
        """Oldest first."""
        return tuple(sorted((flow for one in self.places for flow in one.over), key=oldest_first))

    @property
    def users(self) -> tuple[Server, ...]:
        """The servers that are checked there."""
        return tuple(dict.fromkeys(user for one in self.places for user in one.group.users))

    @property
    def growth(self) -> Growth | None:
        return total([one.growth for one in self.places])

    def sample(self, most: int) -> list[Flow]:
        """Some, the oldest of each address first; in the order of their age."""
        by_turns = itertools.zip_longest(*(one.over for one in self.places))
        chosen = [flow for turn in by_turns for flow in turn if flow is not None]
        return sorted(chosen[:most], key=oldest_first)


def leaks(held: Iterable[Held]) -> list[Leak]:
    """One for each process and backend, in the order of these."""
    found: dict[tuple[int, str, bool], list[Held]] = {}
    for one in held:
        agent = one.group.said.role is Role.AGENT
        found.setdefault((one.group.pid, _backend(one.group), agent), []).append(one)
    return [Leak(*key, tuple(places)) for key, places in sorted(found.items())]


def _backend(group: Group) -> str:
    """``backend be``, by the servers that are checked there or else by what was said of one."""
    names = list(dict.fromkeys(server.backend for server in group.users))
    if not names and group.said.label:
        names = [group.said.label.partition("/")[0]]
    return f"backend {', '.join(names)}" if names else group.endpoint


def groups(world: World, flows: Iterable[Flow]) -> list[Group]:
    found: dict[Place, list[Flow]] = {}
    for flow in flows:
        found.setdefault((flow.pid, flow.raddr, flow.rport), []).append(flow)
    return [_group(world, key, members) for key, members in sorted(found.items())]


def _group(world: World, key: Place, flows: Sequence[Flow]) -> Group:
    pid, address, port = key
    servers = world.servers.get(pid) or next(iter(world.servers.values()), ())
    users = [one for one in servers if _health(one, key) or _agent(one, key)]
    sessions = [one for one in servers if takes(one, key)]
    tasks = sum(_health(one, key) + _agent(one, key) for one in users)
    said = min((world.attribution(flow) for flow in flows), key=_sureness)
    about = [one for one in world.checks if one.pid == pid and one.server in users]
    starts = [check.at_ns for one in about for check in one.recent]
    starts += [flow.connect_ns for flow in flows if not flow.preexisting]
    return Group(
        pid=pid,
        address=address,
        port=port,
        flows=tuple(sorted(flows, key=oldest_first)),
        said=said,
        tasks=max(tasks, 1),
        limit_ns=max((_limit_ms(one) for one in users), default=THRESHOLDS.default_inter_ms)
        * 1_000_000,
        interval_ns=min((_inter_ms(one) for one in users), default=0) * 1_000_000,
        latest_start_ns=max(starts, default=0),
        users=tuple(users),
        servers=tuple(dict.fromkeys([*users, *sessions])),
    )


def _sureness(said: Attribution) -> tuple[int, str]:
    return (Confidence.POSSIBLE, Confidence.LIKELY, Confidence.CERTAIN).index(
        said.confidence
    ), said.label


def takes(server: Server, key: Place) -> bool:
    """Whether sessions may go there; port 0 is the port which the client asked for."""
    return server.address == key[1] and server.port in (key[2], 0)


def _health(server: Server, key: Place) -> bool:
    return server.checked and (server.check_address, server.check_port) == key[1:]


def _agent(server: Server, key: Place) -> bool:
    return server.agent_checked and (server.agent_address, server.agent_port) == key[1:]


def _inter_ms(server: Server) -> int:
    said = server.settings
    known = (said.inter_ms or THRESHOLDS.default_inter_ms, said.fastinter_ms, said.downinter_ms)
    return min(one for one in known if one)


def _limit_ms(server: Server) -> int:
    """The longest a check may take: `inter` to connect, then `timeout check` to be answered.

    A `timeout connect` longer than `timeout check` may prolong it (HAProxy 7c788f098462).
    """
    said = server.settings
    inter_ms = max(said.inter_ms or THRESHOLDS.default_inter_ms, said.downinter_ms or 0)
    return max(inter_ms, said.timeout_connect_ms or 0) + (said.timeout_check_ms or 0)
