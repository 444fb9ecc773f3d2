"""Fold HAProxy's command-line sockets into rows: slots used, who sits on each, who waits.

An accepted end carries its listener's path; its peer is the client's end, whose holder is
the client.  A peer of 0 means that the client has left (unix_diag(7): UNIX_DIAG_PEER).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hatrace.model.event import CommandClients, CommandSockets, UnixSocket
from hatrace.model.topology import CommandSocket
from hatrace.sinks.live.frame import SocketRow

_LISTENING = 10


def socket_rows(
    seen: CommandSockets | None, called: CommandClients | None = None
) -> tuple[SocketRow, ...]:
    """The fullest first; masters before the others."""
    if seen is None:
        return ()
    clients = _clients(seen)
    rows = [_row(socket, seen, clients, called) for socket in seen.sockets]
    return tuple(sorted(rows, key=lambda row: (not row.master, -row.used, row.path)))


def _row(
    socket: CommandSocket,
    seen: CommandSockets,
    clients: dict[int, str],
    called: CommandClients | None,
) -> SocketRow:
    listener = _listener(socket, seen.unix)
    calls = [one for one in called.calls if one.path == socket.path] if called else []
    ends = list(_accepted(listener, seen.unix)) if listener else []
    return SocketRow(
        path=socket.path,
        master=socket.master,
        pid=socket.pid,
        used=len(ends),
        limit=socket.limit,
        waiting=listener.queue if listener else 0,
        level=socket.level.value if socket.level else "",
        holders=_grouped(ends, clients),
        calls=sum(one.connects for one in calls) if called else None,
        callers=tuple(
            f"{one.comm} (pid {one.pid})" + (f" x{one.connects}" if one.connects > 1 else "")
            for one in calls
        ),
    )


def _listener(socket: CommandSocket, unix: tuple[UnixSocket, ...]) -> UnixSocket | None:
    """By inode where that is known, else by the names the kernel may know it under."""
    for one in unix:
        if one.state == _LISTENING and socket.inode == one.inode:
            return one
    names = (socket.path, f"{socket.path}.{socket.pid}.tmp")
    return next((one for one in unix if one.state == _LISTENING and one.path in names), None)


def _accepted(listener: UnixSocket, unix: tuple[UnixSocket, ...]) -> Iterator[UnixSocket]:
    """Ends that HAProxy holds; those which still wait have no file, so no inode."""
    for one in unix:
        if one.path == listener.path and one.state != _LISTENING and one.inode:
            yield one


def _clients(seen: CommandSockets) -> dict[int, str]:
    """Who holds an inode: ``socat - /run/ma.sock (pid 1234)``."""
    return {
        holder.inode: f"{seen.names.get(holder.pid) or '?'} (pid {holder.pid})"
        for holder in seen.holders
    }


def _grouped(ends: list[UnixSocket], clients: dict[int, str]) -> tuple[str, ...]:
    who = Counter(
        clients.get(end.peer_inode, "unknown holder") if end.peer_inode else "client has left"
        for end in ends
    )
    return tuple(name if n == 1 else f"{name} x{n}" for name, n in who.most_common())
