"""What HAProxy itself says of a socket: `show sess` and `show fd`, joined by pid and fd.

An answer holds for sockets that existed when it was given; an fd that was closed and given
away since is told by the socket's birth and its ports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hatrace.flows.doubt import at_least
from hatrace.flows.owners import Owners
from hatrace.flows.told import Told
from hatrace.model.attribution import Attribution, Role
from hatrace.model.event import Descriptor, Stream
from hatrace.model.finding import Confidence
from hatrace.model.flow import Flow

COMMAND_LINES = {"GLOBAL": Role.CLI, "MASTER": Role.MASTER_CLI}
"""HAProxy's own frontends behind its command-line sockets."""


class Witness:
    """Asks what was said of the fds that hold a socket."""

    def __init__(self, told: Told, owners: Owners) -> None:
        self._told = told
        self._owners = owners

    def confirmed(
        self, flow: Flow, found: Attribution, *, front: bool, mixed: bool = False
    ) -> Attribution:
        """``found``, unless HAProxy itself knows better.

        ``front``: an accepted socket; ``mixed``: sessions and checks both go where it goes.
        """
        if not flow.inode:
            return found
        for pid, stream in self._streams_of(flow, front):
            return _of_stream(stream, found, pid, front=front)
        for pid, one in self._descriptors_of(flow):
            confirmed = _of_descriptor(one, found, pid, mixed=mixed)
            if confirmed is not None:
                return confirmed
        if found.role is Role.CHECK and found.confidence is Confidence.POSSIBLE:
            return self._without_stream(flow, found)
        return found

    def _without_stream(self, flow: Flow, found: Attribution) -> Attribution:
        """What may be a check is likelier one if no stream has it."""
        for holder in self._owners.fds.of(flow.inode):
            said = self._told.streams.get(holder.pid)
            if said is not None and said.complete and _was_there(flow, said.at_ns):
                why = f"{found.reason}; no stream of pid {holder.pid} has it"
                return replace(found, confidence=Confidence.LIKELY, reason=why)
        return found

    def _streams_of(self, flow: Flow, front: bool) -> Iterator[tuple[int, Stream]]:
        """The streams that name an fd of this socket, as the side that it is."""
        if not self._told.streams:
            return
        for holder in self._owners.fds.of(flow.inode):
            said = self._told.stream_fds(holder.pid, front).get(holder.fd)
            if said is not None and _was_there(flow, self._told.streams[holder.pid].at_ns):
                yield holder.pid, said

    def _descriptors_of(self, flow: Flow) -> Iterator[tuple[int, Descriptor]]:
        """The lines of `show fd` for an fd of this socket; ports guard against a reused fd."""
        if not self._told.descriptors:
            return
        for holder in self._owners.fds.of(flow.inode):
            said = self._told.descriptor_fds(holder.pid).get(holder.fd)
            if said is None or not _was_there(flow, self._told.descriptors[holder.pid].at_ns):
                continue
            ports = ((said.local_port, flow.lport), (said.remote_port, flow.rport))
            if all(not a or not b or a == b for a, b in ports):
                yield holder.pid, said


def _was_there(flow: Flow, at_ns: int) -> bool:
    """Whether the socket existed when HAProxy was asked."""
    return flow.preexisting or (flow.connect_ns or flow.established_ns or flow.born_ns) <= at_ns


def _by(command: str, pid: int) -> str:
    return f"`{command}` of pid {pid} says so"


def _of_stream(stream: Stream, found: Attribution, pid: int, *, front: bool) -> Attribution:
    """One side of a stream.  Those of the command line have frontends of HAProxy's own."""
    why = _by("show sess", pid)
    if front:
        role = COMMAND_LINES.get(stream.frontend, Role.CLIENT)
        label = stream.frontend if role is Role.CLIENT else ""
        return Attribution(role, label, Confidence.CERTAIN, why)
    named = bool(stream.backend and stream.server)
    label = f"{stream.backend}/{stream.server}" if named else found.label
    return Attribution(Role.SERVER, label, Confidence.CERTAIN, why)


def _of_descriptor(
    one: Descriptor, found: Attribution, pid: int, *, mixed: bool
) -> Attribution | None:
    """A line of `show fd` as attribution; None where it says nothing new.

    Kind ``server`` is all it says of a check over TCP without HTTP (the mux is PASS for
    both), so there it settles which server, but not what for; kind ``check`` of such a one is
    concluded from the lack of a stream, which a leaked session lacks as well: it does not
    stand against an address without checks, or against more data than a check carries.
    """
    why = _by("show fd", pid)
    if one.kind == "check":
        surely = not mixed or at_least(found, Confidence.LIKELY)
        if found.role is Role.SERVER and surely:
            return replace(found, label=one.server or found.label)
        role = Role.AGENT if found.role is Role.AGENT else Role.CHECK
        return Attribution(role, one.server or found.label, Confidence.CERTAIN, why)
    if one.kind == "server":
        label = one.server or found.label
        if found.role in (Role.CHECK, Role.AGENT):
            return replace(found, label=label)
        if mixed or found.role is Role.UNKNOWN:
            why += ", which may not tell a check from a session"
            return Attribution(Role.SERVER, label, Confidence.LIKELY, why)
        return Attribution(Role.SERVER, label, Confidence.CERTAIN, why)
    if one.kind == "client" and found.role is not Role.LISTENER:
        return Attribution(Role.CLIENT, one.frontend or found.label, Confidence.CERTAIN, why)
    if one.kind in ("cli", "master-cli"):
        return Attribution(Role(one.kind), "", Confidence.CERTAIN, why)
    return None
