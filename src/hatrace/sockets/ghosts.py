"""Sockets that are held, but in no table: ghosts, and those that were never connected.

A TCP socket in state CLOSE is in no hash table, so neither `ss` nor /proc/net/tcp nor
sock_diag shows it; only its fd does.  Two steps find and name them:

1.  For an inode in no table, the extended attribute ``system.sockprotoname`` of
    /proc/PID/fd/N says ``TCP`` or ``TCPv6``.  Nothing is opened by that.
2.  Only for those, pidfd_getfd(2) (Linux 5.6) lends us the socket for about 6 µs, and
    getsockopt tells state, both addresses (SO_PEERNAME, where getpeername(2) refuses a
    closed socket), bytes and cookie.  SO_ERROR is not asked: reading it clears it.

What step 2 risks: if the owner closes that fd within those microseconds, our close is the
last one.  Then the socket is freed some microseconds later and in our name (a probe on
inet_release would report hatrace as the closer), and an epoll set which its owner did not
take it out of keeps it as long.  On the network nothing can differ: a socket in CLOSE has
nothing left to send.  One that was just made and is about to connect can be met, too,
which is why a socket that turns out to be in any other state is let go and not reported.
Callers ask once per inode, which costs 30 µs.  ``lend=False`` leaves step 2 out: then
addresses are unknown (16 zero bytes), and a ghost cannot be told from a socket that was
never connected.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from hatrace.model.address import UNSPECIFIED, V4_PREFIX
from hatrace.model.event import Holder
from hatrace.model.flow import Flag, Flow, State
from hatrace.sockets.names import comm_bytes
from hatrace.sockets.tcp_diag import INFO, Surroundings

_FAMILIES = {b"TCP": int(socket.AF_INET), b"TCPv6": int(socket.AF_INET6)}
_PROTOCOL_NAME = "system.sockprotoname"
_SO_PEERNAME, _SO_COOKIE = 28, 57
_SYS_PIDFD_GETFD = 438
"""The same number on every architecture but alpha."""
_INFO_BYTES = 256
INODE_ID = 1 << 63
"""Set in the ``id`` of a flow whose cookie is unknown; the rest is its inode."""


def tcp_family(holder: Holder) -> int | None:
    """AF_INET or AF_INET6 if a held socket is a TCP one; None if not, or no longer held."""
    try:
        name = os.getxattr(f"/proc/{holder.pid}/fd/{holder.fd}", _PROTOCOL_NAME)
    except OSError:
        return None
    return _FAMILIES.get(name.rstrip(b"\0"))


def ghosts(held: Iterable[Holder], around: Surroundings, lend: bool = True) -> Iterator[Flow]:
    """The TCP sockets among ``held``, which the caller found in no table, as flows.

    State CLOSE; ``closed_ns`` is now for those that once were connected (when they closed
    is unknown), 0 for those that never were, or where that is unknown.
    """
    pidfds: dict[int, int | None] = {}
    try:
        for holder in held:
            family = tcp_family(holder)
            if family is None:
                continue
            if lend and holder.pid not in pidfds:
                pidfds[holder.pid] = _pidfd(holder.pid)
            flow = _lent(pidfds.get(holder.pid), holder, family, around)
            if flow is not None:
                yield flow
    finally:
        for pidfd in pidfds.values():
            if pidfd is not None:
                os.close(pidfd)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _lent(pidfd: int | None, holder: Holder, family: int, around: Surroundings) -> Flow | None:
    """The socket, looked at through a borrowed fd; None if it is no closed one any more."""
    unknown = _flow(holder, family, around)
    if pidfd is None or platform.machine() == "alpha":
        return unknown
    fd = _libc().syscall(_SYS_PIDFD_GETFD, pidfd, holder.fd, 0)
    if fd < 0:
        gone = ctypes.get_errno() in (errno.EBADF, errno.ESRCH)
        return None if gone else unknown
    lent = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=fd)
    try:
        if os.fstat(fd).st_ino != holder.inode:
            return None
        return _described(lent, unknown, around)
    except OSError:
        return unknown
    finally:
        lent.close()


def _described(lent: socket.socket, flow: Flow, around: Surroundings) -> Flow | None:
    """``flow`` with all that getsockopt(2) tells; None unless its state is CLOSE."""
    info = lent.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    if info[0] != State.CLOSE:
        return None
    cookie = int.from_bytes(lent.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), "little")
    local = _address(lent.getsockname())
    flow = flow._replace(id=cookie, cookie=cookie, laddr=local[0], lport=local[1])
    try:
        remote = _peer_name(lent, flow.family)
    except OSError:
        return flow  # ENOTCONN: it never was connected
    quiet_out, quiet_in, _, trip, acked, received, segments, sent, again = INFO.unpack_from(info)
    flags = flow.flags | around.direction(local[1], remote[1])
    established = bool(trip or acked)
    return flow._replace(
        raddr=remote[0],
        rport=remote[1],
        closed_ns=around.now_ns,
        moved_ns=around.now_ns - min(quiet_out, quiet_in) * 1_000_000 if established else 0,
        sent_bytes=sent - again,
        received_bytes=received if segments else 0,
        flags=flags if established else flow.flags | Flag.CONNECTED | Flag.FAILED,
    )


def _peer_name(lent: socket.socket, family: int) -> tuple[bytes, int]:
    """Whom a socket was connected to, even after its end; raises OSError if to nobody.

    The kernel wants the exact size of the address here.
    """
    size = 16 if family == socket.AF_INET else 28
    raw = lent.getsockopt(socket.SOL_SOCKET, _SO_PEERNAME, size)
    port = int.from_bytes(raw[2:4], "big")
    return (V4_PREFIX + raw[4:8] if size == 16 else raw[8:24]), port


def _address(name: tuple[str, int] | tuple[str, int, int, int]) -> tuple[bytes, int]:
    host = name[0].partition("%")[0]
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host), name[1]
    return V4_PREFIX + socket.inet_aton(host), name[1]


def _flow(holder: Holder, family: int, around: Surroundings) -> Flow:
    """A closed socket of which only the holder is known."""
    pid, comm = around.owners.get(holder.inode) or (holder.pid, comm_bytes(holder.pid))
    values: dict[str, Any] = dict.fromkeys(Flow._fields, 0) | {
        "id": INODE_ID | holder.inode,
        "born_ns": around.now_ns,
        "laddr": UNSPECIFIED,
        "raddr": UNSPECIFIED,
        "comm_bytes": comm,
        "pid": pid,
        "inode": holder.inode,
        "netns": around.netns,
        "flags": int(Flag.ADOPTED | Flag.OWNED),
        "family": family,
        "state": int(State.CLOSE),
    }
    return Flow(**values)
