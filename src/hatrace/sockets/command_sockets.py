"""HAProxy's command-line sockets as the kernel sees them: listeners, connections, holders.

A listener's kernel name is ``<path>`` or ``<path>.<pid>.tmp``: HAProxy binds to a temporary
name and renames it, and the kernel keeps the name of bind(2).  An accepted connection
inherits that name.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from hatrace.model.event import CommandSockets, Holder, UnixSocket
from hatrace.model.topology import CommandSocket
from hatrace.sockets import unix_diag
from hatrace.sockets.holders import Finder
from hatrace.sockets.names import command_line
from hatrace.sockets.netlink import Diag, namespace_of, within

CONNECTED, LISTENING = 1, 10
_TEMPORARY = re.compile(r"\.\d+\.tmp$")


def command_sockets(
    sockets: Collection[CommandSocket], finder: Finder | None, known: Iterable[Holder] = ()
) -> CommandSockets:
    """Everything on these command-line sockets now; pass the same ``finder`` each time.

    Without a finder nobody looks for holders, which takes longest; a listener's inode is then
    told only where no other has its name.

    ``known``: holders that were just read anyway (those of HAProxy's processes), which
    saves reading them again.  Listeners' inodes are filled in where they can be told.
    Sockets in another network namespace are looked for there.
    Raises netlink.Refused or EnvironmentLacks.
    """
    at_ns = time.monotonic_ns()
    found = _unix_of(sockets)
    held = finder.find([unix.inode for unix in found], known) if finder else {}
    holders = tuple(holder for inode in sorted(held) for holder in held[inode])
    return CommandSockets(
        at_ns,
        tuple(_identified(socket, found, held) for socket in sockets),
        tuple(found),
        holders,
        {pid: command_line(pid) for pid in sorted({holder.pid for holder in holders})},
    )


def _unix_of(sockets: Collection[CommandSocket]) -> list[UnixSocket]:
    """Listeners, accepted ends and clients' ends, in each network namespace concerned."""
    namespaces: dict[int | None, list[CommandSocket]] = {}
    for socket in sockets:
        namespaces.setdefault(namespace_of(socket.pid), []).append(socket)
    found: dict[int, UnixSocket] = {}
    for netns, inside in namespaces.items():
        pid = inside[0].pid if netns is not None else None
        everything = within(pid, _dump)
        for unix in related(everything, inside):
            found[unix.inode] = unix
    return list(found.values())


def _dump() -> list[UnixSocket]:
    with Diag() as diag:
        return list(unix_diag.dump(diag))


def related(
    everything: Iterable[UnixSocket], sockets: Collection[CommandSocket]
) -> list[UnixSocket]:
    """Of all AF_UNIX sockets, those that belong to these command-line sockets."""
    unix = {socket.inode: socket for socket in everything if socket.inode}
    ours = _matcher(sockets)
    listeners = [s for s in unix.values() if s.state == LISTENING and ours(s)]
    names = {listener.path for listener in listeners}
    accepted = [
        s for s in unix.values() if s.state != LISTENING and s.path and (s.path in names or ours(s))
    ]
    clients = [s.peer_inode for s in accepted]
    waiting = [inode for listener in listeners for inode in listener.waiting]
    ends = {inode: unix[inode] for inode in (*clients, *waiting) if inode in unix}
    return list({s.inode: s for s in (*listeners, *accepted, *ends.values())}.values())


def _matcher(sockets: Collection[CommandSocket]) -> Callable[[UnixSocket], bool]:
    paths = {kernel_path(socket.path) for socket in sockets if socket.path}
    inodes = {socket.inode for socket in sockets if socket.inode}
    return lambda unix: unix.inode in inodes or _TEMPORARY.sub("", unix.path) in paths


def kernel_path(path: str) -> str:
    """A configured path as the kernel names it: without HAProxy's address prefix."""
    for prefix, instead in (("unix@", ""), ("abns@", "@"), ("abnsz@", "@")):
        if path.startswith(prefix):
            return instead + path.removeprefix(prefix)
    return path


def _identified(
    socket: CommandSocket, found: Iterable[UnixSocket], held: dict[int, list[Holder]]
) -> CommandSocket:
    """With the inode of its listener: the one of its name that its process holds."""
    if socket.inode is not None:
        return socket
    ours = _matcher([socket])
    listeners = [unix.inode for unix in found if unix.state == LISTENING and ours(unix)]
    its_own = [
        inode for inode in listeners if any(h.pid == socket.pid for h in held.get(inode, ()))
    ]
    candidates = its_own or (listeners if len(listeners) == 1 else [])
    return replace(socket, inode=max(candidates)) if candidates else socket
