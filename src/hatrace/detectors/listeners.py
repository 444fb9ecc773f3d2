"""Listeners: what HAProxy says of one, as its owner or by its checks of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set

from hatrace.detectors.slots import limit_of
from hatrace.model.address import is_unspecified
from hatrace.model.attribution import Role
from hatrace.model.event import Target
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Bind, CommandSocket, Server
from hatrace.model.world import World

TIMED_OUT = ("L4TOUT", "L6TOUT", "L7TOUT")
SAMPLED = "netlink"
"""The rung that sees a connection once somebody holds it."""


def is_stopped(world: World, pid: int) -> bool:
    """Whether it is a HAProxy process that a signal or a debugger holds."""
    process = world.processes.get(pid)
    return process is not None and process.stopped


def gave_no_answer(world: World, one: Flow) -> bool:
    """Whether it is stopped, or a check of HAProxy timed out."""
    if is_stopped(world, one.pid):
        return True
    return any((check.check_status or "") in TIMED_OUT for check in checks_of(world, one))


def at_its_limit(world: World, one: Flow) -> bool:
    """Whether it is HAProxy's, and the queue waits there because of a configured `maxconn`."""
    if is_stopped(world, one.pid):
        return False
    info, configured = world.infos.get(one.pid), world.configured.get(one.pid)
    used, limit = (info.values.get(name, "") if info else "" for name in ("CurrConns", "Maxconn"))
    if used.isdecimal() and limit.isdecimal() and int(used) >= int(limit) > 0:
        return True
    binds = [bind for bind in configured.binds if _is(bind, one)] if configured else []
    limits = [bind.limit for bind in binds if bind.limit]
    rows = list(_clients(world, {bind.frontend for bind in binds}))
    return bool(limits) and _accepted(world, one, rows) >= min(limits)


def _accepted(world: World, one: Flow, rows: Collection[Target]) -> int:
    """How many are open of these totals, without those that wait in the listener's queue.

    Those that waited there before hatrace came had no owner to be counted for; the netlink rung
    counts nobody who waits.
    """
    waiting = min(one.unread_bytes, sum(row.born for row in rows))
    return sum(row.open for row in rows) - (0 if world.info.rung == SAMPLED else waiting)


def came(world: World, one: Flow) -> int | None:
    """Connections to a listener since hatrace came, those included that wait in its queue; None:
    they are not told from those of others at its port."""
    others = [each for each in world.open.values() if each.state == State.LISTEN and each.held]
    if sum(_meet(each, one) for each in others) > 1:
        return None
    waiting = one.unread_bytes if world.info.rung == SAMPLED else 0
    return sum(row.born for row in world.targets.values() if _reaches(row, one)) + waiting


def _meet(one: Flow, other: Flow) -> bool:
    """Whether some connections may come to either; each does to itself."""
    if (one.netns, one.lport) != (other.netns, other.lport):
        return False
    either = is_unspecified(one.laddr) or is_unspecified(other.laddr)
    return either or one.laddr == other.laddr


def _reaches(row: Target, one: Flow) -> bool:
    """Whether the connections of these totals are the listener's."""
    there = row.inbound and (row.netns, row.port) == (one.netns, one.lport)
    return there and (row.address == one.laddr or is_unspecified(one.laddr))


def command_socket(world: World, one: Flow) -> CommandSocket | None:
    """The command-line socket, at a TCP address, that this listener is."""
    sample = world.command_sockets
    known = sample.sockets if sample is not None else ()
    return next((socket for socket in known if _listens(world, socket, one)), None)


def _listens(world: World, socket: CommandSocket, one: Flow) -> bool:
    """Whether the listener has its address and is of its process, or of its network."""
    address, port = socket.tcp or (None, 0)
    if port != one.lport:
        return False
    if any(holder.pid == socket.pid for holder in world.holders(one.inode)):
        return address is None or _same(address, one.laddr)
    process = world.processes.get(socket.pid)
    here = process is not None and process.netns == one.netns
    return here and address is not None and _same(address, one.laddr)


def _same(address: bytes, other: bytes) -> bool:
    return address == other or (is_unspecified(address) and is_unspecified(other))


def slots_taken(world: World, one: Flow) -> CommandSocket | None:
    """The command-line socket that this is, if it serves as many connections as it may."""
    socket = command_socket(world, one)
    known = came(world, one)
    if socket is None or known is None or is_stopped(world, one.pid):
        return None
    rows = [row for row in world.targets.values() if _reaches(row, one)]
    return socket if _accepted(world, one, rows) >= limit_of(socket) else None


def _is(bind: Bind, one: Flow) -> bool:
    return bind.port == one.lport and (bind.address == one.laddr or is_unspecified(one.laddr))


def _clients(world: World, frontends: Set[str]) -> Iterator[Target]:
    """Totals of these frontends' clients, those included that wait in a queue."""
    for row in world.targets.values():
        said = world.target_attribution(row) if row.inbound else None
        mine = said is not None and not frontends.isdisjoint(said.label.split(", "))
        if said is not None and mine and said.role is Role.CLIENT:
            yield row


def checks_of(world: World, one: Flow) -> list[Server]:
    """Servers of HAProxy which are this listener."""
    found = {
        server.label: server
        for known in world.servers.values()
        for server in known
        for address, port in (
            (server.address, server.port),
            (server.check_address, server.check_port),
        )
        if port == one.lport
        and address is not None
        and (address == one.laddr or is_unspecified(one.laddr))
    }
    return [found[label] for label in sorted(found)]
