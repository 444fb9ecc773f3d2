"""What comes in: clients at a frontend, callers at a command-line socket, an application's own."""

from __future__ import annotations

from hatrace.flows.doubt import less_sure
from hatrace.flows.owners import Owners
from hatrace.flows.places import labels
from hatrace.flows.told import Told
from hatrace.model.address import is_unspecified
from hatrace.model.attribution import Attribution, Role
from hatrace.model.event import Target
from hatrace.model.finding import Confidence
from hatrace.model.flow import Flow
from hatrace.model.topology import Bind, CommandSocket

CERTAIN, LIKELY, POSSIBLE = Confidence.CERTAIN, Confidence.LIKELY, Confidence.POSSIBLE


def accepted(told: Told, owners: Owners, flow: Flow, pid: int, comm: str) -> Attribution:
    """An accepted socket, by its local end and its owner."""
    ours = owners.is_haproxy(pid, comm)
    if ours is False:
        return _application(told, comm, flow.laddr, flow.lport)
    found = _at(told, pid, flow.laddr, flow.lport, flow.netns)
    if found is not None:
        return found if ours else less_sure(found, "nobody was seen to accept it yet")
    if ours:
        why = "accepted by HAProxy on a port that no known configuration binds"
        return Attribution(Role.CLIENT, "", LIKELY, why)
    return Attribution(Role.UNKNOWN, "", POSSIBLE, "nobody has accepted it yet, or was seen to")


def listener(told: Told, owners: Owners, flow: Flow, pid: int, comm: str) -> Attribution:
    """A listening socket; the label is what it is for."""
    name = comm or "its process"
    if owners.is_haproxy(pid, comm) is False:
        served = _application(told, comm, flow.laddr, flow.lport)
        return Attribution(Role.LISTENER, served.label, CERTAIN, f"{name} listens; not HAProxy")
    found = _at(told, pid, flow.laddr, flow.lport, flow.netns)
    if found is None:
        why = "it listens on a port that no known configuration binds"
        return Attribution(Role.LISTENER, "", CERTAIN, why)
    return Attribution(Role.LISTENER, found.label, CERTAIN, found.reason)


def target(told: Told, owners: Owners, row: Target) -> Attribution:
    """Totals of what comes in at an address; who accepts it, the totals do not say."""
    found = _at(told, 0, row.address, row.port, row.netns)
    if found is not None:
        return found
    if owners.only_haproxy:
        why = "in HAProxy's scope, on a port that no known configuration binds"
        return Attribution(Role.CLIENT, "", POSSIBLE, why)
    if not told.processes:
        return Attribution(Role.APPLICATION, "", LIKELY, "no HAProxy runs here")
    served = _application(told, "", row.address, row.port)
    if served.label or told.configured:
        return served
    return Attribution(Role.UNKNOWN, "", POSSIBLE, "no configuration is known yet")


def command_socket(told: Told, address: bytes, port: int) -> CommandSocket | None:
    """The command-line socket at this TCP address."""
    known = told.command_sockets
    for socket in known.sockets if known is not None else ():
        bound, at_port = socket.tcp or (None, 0)
        if at_port == port and bound is not None and _covers(bound, address):
            return socket
    return None


def _at(told: Told, pid: int, address: bytes, port: int, netns: int) -> Attribution | None:
    """What HAProxy has at a local address: a command-line socket, a frontend or its peers."""
    socket = command_socket(told, address, port)
    if socket is not None:
        role = Role.MASTER_CLI if socket.master else Role.CLI
        sure = CERTAIN if pid in (0, socket.pid) else LIKELY
        return Attribution(role, "", sure, f"the command-line socket {socket.path}")
    binds = _binds(told, pid, address, port, netns)
    if not binds:
        return _peers(told, address, port)
    label = ", ".join(dict.fromkeys(bind.frontend for _, bind in binds))
    if any(teller == pid for teller, _ in binds) or not pid:
        return Attribution(Role.CLIENT, label, CERTAIN, "its configuration binds that port")
    tellers = ", ".join(str(teller) for teller in dict.fromkeys(teller for teller, _ in binds))
    own = "its own does not" if pid in told.configured else "its own is unknown"
    why = f"the configuration of pid {tellers} binds that port; {own}"
    return Attribution(Role.CLIENT, label, LIKELY, why)


def _peers(told: Told, address: bytes, port: int) -> Attribution | None:
    """The address at which this process, itself a peer, is called by the others."""
    for configured in told.configured.values():
        for one in configured.endpoints:
            if one.kind == "peers" and one.port == port and _covers(one.address, address):
                return Attribution(Role.PEERS, one.name, LIKELY, f"{one.name} lives there")
    return None


def _binds(told: Told, pid: int, address: bytes, port: int, netns: int) -> list[tuple[int, Bind]]:
    """The binds which cover a local address, with the pid whose configuration has them: the
    owner's own, or for want of these others' in the same network namespace."""
    found = [
        (configured.pid, bind)
        for configured in told.configured.values()
        if configured.pid == pid or _same_netns(told, configured.pid, netns)
        for bind in configured.binds
        if bind.port == port and _covers(bind.address, address)
    ]
    return [(teller, bind) for teller, bind in found if teller == pid] or found


def _same_netns(told: Told, pid: int, netns: int) -> bool:
    """False only where both are known and differ."""
    process = told.processes.get(pid)
    known = process.netns if process is not None else None
    return not known or not netns or known == netns


def _covers(bound: bytes, address: bytes) -> bool:
    """Whether a socket bound to one address receives for another."""
    return bound == address or is_unspecified(bound) or is_unspecified(address)


def _application(told: Told, comm: str, address: bytes, port: int) -> Attribution:
    """A socket of a process that is not HAProxy; labelled if HAProxy's servers live there."""
    name = comm or "its process"
    places = told.places(0)[0]
    place = places.at(address, port) if places is not None else None
    if place is None:
        return Attribution(Role.APPLICATION, "", LIKELY, f"{name} is not HAProxy")
    users = (*place.sessions, *place.checks, *place.agents, *place.dormant)
    why = f"{name} accepts where HAProxy connects to"
    return Attribution(Role.APPLICATION, labels(users), CERTAIN, why)
