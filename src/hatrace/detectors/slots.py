"""Slots: the connections which a command-line socket serves at once, and who is behind each.

From unix_diag: a listener, the ends accepted from it (same name, an inode of their own) and
the clients' ends (the peers).  The kernel knows the name as ``<path>.<pid>.tmp``, hence
sockets are found by the listener's inode, never by path.  What waits to be accepted has no
inode yet; the clients of these are the listener's ``waiting``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hatrace.model.event import CommandSockets, Holder, UnixSocket
from hatrace.model.topology import CommandSocket
from hatrace.model.world import World

LISTENING = 10
MASTER_SLOTS = 10
"""Fixed in the source: mworker_cli_create_master_proxy, every version from 2.2 to 3.4."""
DEFAULT_SLOTS = 10
"""`stats maxconn` unless configured."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One served connection; ``client_pid`` 0: not known, or none."""

    inode: int
    fd: int | None
    peer_inode: int
    """0: the client has left."""
    client_pid: int
    client_fd: int | None
    command: str
    unread_bytes: int
    """Sent by the client, not yet read by HAProxy."""
    answer_bytes: int
    """Answered by HAProxy, not yet read by the client."""
    first_ns: int
    preexisting: bool

    @property
    def left(self) -> bool:
        return not self.peer_inode


@dataclass(frozen=True, slots=True)
class Waiting:
    """A client in the accept queue."""

    inode: int
    pid: int
    command: str


@dataclass(frozen=True, slots=True)
class Service:
    """A command-line socket with all its connections."""

    socket: CommandSocket
    slots: tuple[Slot, ...]
    """The oldest first."""
    queue: int
    backlog: int
    waiting: tuple[Waiting, ...]

    @property
    def limit(self) -> int:
        return limit_of(self.socket)

    @property
    def name(self) -> str:
        return name_of(self.socket)


def limit_of(socket: CommandSocket) -> int:
    """Connections it serves at once."""
    if socket.limit is not None:
        return socket.limit
    return MASTER_SLOTS if socket.master else DEFAULT_SLOTS


def name_of(socket: CommandSocket) -> str:
    return f"{'master' if socket.master else 'stats'} socket {socket.path}"


class SlotBook:
    """Remembers when each connection was first seen; made once, asked at every sample."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._old: set[int] = set()
        self._began: set[int] = set()

    def read(self, world: World, sample: CommandSockets) -> list[Service]:
        """The services of one sample, in the order of their paths.

        Connections of the first sample of a socket are marked as older than hatrace.
        """
        unix = {one.inode: one for one in sample.unix}
        holders: dict[int, list[Holder]] = {}
        for one in sample.holders:
            holders.setdefault(one.inode, []).append(one)
        services = []
        seen: set[int] = set()
        for socket in sorted(sample.sockets, key=lambda one: (one.path, one.pid)):
            listener = unix.get(socket.inode or 0)
            if listener is None or listener.state != LISTENING:
                continue
            accepted = [
                one
                for one in sample.unix
                if one.path == listener.path
                and one.state != LISTENING
                and any(holder.pid == socket.pid for holder in holders.get(one.inode, ()))
            ]
            self._note(listener.inode, accepted, sample.at_ns)
            seen |= {listener.inode, *(one.inode for one in accepted)}
            services.append(self._service(world, sample, socket, listener, accepted, holders))
        self._forget(seen)
        return services

    def _note(self, listener: int, accepted: Sequence[UnixSocket], at_ns: int) -> None:
        first = listener not in self._began
        self._began.add(listener)
        for one in accepted:
            self._first.setdefault(one.inode, at_ns)
            if first:
                self._old.add(one.inode)

    def _forget(self, seen: set[int]) -> None:
        self._first = {inode: at for inode, at in self._first.items() if inode in seen}
        self._old &= seen
        self._began &= seen

    def _service(
        self,
        world: World,
        sample: CommandSockets,
        socket: CommandSocket,
        listener: UnixSocket,
        accepted: Sequence[UnixSocket],
        holders: Mapping[int, Sequence[Holder]],
    ) -> Service:
        unix = {one.inode: one for one in sample.unix}
        slots = [self._slot(one, socket.pid, unix, holders, sample.names) for one in accepted]
        waiting = [
            Waiting(inode, pid, sample.names.get(pid, ""))
            for inode in listener.waiting
            for pid in [_first_pid(holders.get(inode, ()))]
        ]
        return Service(
            socket=socket,
            slots=tuple(sorted(slots, key=lambda one: (one.first_ns, one.inode))),
            queue=listener.queue,
            backlog=listener.queue_limit,
            waiting=tuple(sorted(waiting, key=lambda one: (one.pid, one.inode))),
        )

    def _slot(
        self,
        end: UnixSocket,
        server_pid: int,
        unix: Mapping[int, UnixSocket],
        holders: Mapping[int, Sequence[Holder]],
        names: Mapping[int, str],
    ) -> Slot:
        own = [one for one in holders.get(end.inode, ()) if one.pid == server_pid]
        clients = (
            sorted(holders.get(end.peer_inode, ()), key=lambda one: (one.pid, one.fd))
            if end.peer_inode
            else []
        )
        client = clients[0] if clients else None
        peer = unix.get(end.peer_inode)
        return Slot(
            inode=end.inode,
            fd=min((one.fd for one in own), default=None),
            peer_inode=end.peer_inode,
            client_pid=client.pid if client is not None else 0,
            client_fd=client.fd if client is not None else None,
            command=names.get(client.pid, "") if client is not None else "",
            unread_bytes=end.queue,
            answer_bytes=peer.queue if peer is not None else 0,
            first_ns=self._first[end.inode],
            preexisting=end.inode in self._old,
        )


def _first_pid(held: Sequence[Holder]) -> int:
    return min((one.pid for one in held), default=0)


def is_hatrace(world: World, slot: Slot) -> bool:
    """Whether the client is hatrace itself: its command line says so, in a capture as well.

    The header has the words as given (``hatrace live``), /proc has the interpreter before.
    """
    own = " ".join(world.info.command_line[1:])
    return "hatrace" in slot.command and slot.command.endswith(own)
