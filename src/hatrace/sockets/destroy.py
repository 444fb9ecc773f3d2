"""Ending one connection from outside: SOCK_DESTROY (Linux 4.9, CONFIG_INET_DIAG_DESTROY).

The kernel aborts the socket as if the network had (ECONNABORTED for its owner, a RST for
the peer).  The owner keeps its fd: a connection is destroyed, not a leak in its program.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from hatrace.errors import HatraceError
from hatrace.model.flow import Flow, State
from hatrace.sockets.netlink import SOCK_DESTROY, SOCK_DIAG_BY_FAMILY, Diag, Refused, within
from hatrace.sockets.tcp_diag import ALL, REQUEST, decode, surroundings

_SOCKET_ID = struct.Struct(">HH16s16s")
"""struct inet_diag_sockid without its last two: ports and addresses, big endian."""
_INTERFACE_COOKIE = struct.Struct("=IQ")
_NO_COOKIE = 0xFFFFFFFFFFFFFFFF

_WORDS: Mapping[int, str] = {
    errno.ENOENT: "it was gone already (or it is bound to a device, which hides it)",
    errno.ESTALE: "it was gone already, another one has its addresses",
    errno.EOPNOTSUPP: "this kernel cannot (CONFIG_INET_DIAG_DESTROY is not set)",
    errno.EPERM: "not permitted: it takes CAP_NET_ADMIN in its network namespace",
    errno.EACCES: "not permitted: it takes CAP_NET_ADMIN in its network namespace",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt, in words that end a line on this flow."""

    done: bool
    text: str


def destroy(flow: Flow, pid: int | None = None, listener: bool = False) -> Outcome:
    """Destroy the socket of a flow, if it still is the same one.

    It is found by its addresses, and must have the flow's cookie, or its inode where the
    cookie is unknown.  ``pid``: a process in its network namespace, None for ours.
    ``listener``: a LISTEN socket may be destroyed, too.
    """
    refusal = _refusal(flow, listener)
    if refusal:
        return Outcome(False, refusal)
    try:
        return within(pid, lambda: _destroy(flow, listener))
    except Refused as error:
        return Outcome(False, _WORDS.get(error.errno, f"the kernel refused: {error.why}"))
    except HatraceError as error:
        return Outcome(False, str(error))


def _refusal(flow: Flow, listener: bool) -> str:
    """Why a flow is not even tried; empty if it is."""
    if flow.gone_ns:
        return "it was gone already"
    if flow.state == State.LISTEN and not listener:
        return "refused: it is a listener, destroying it stops the service"
    if flow.state == State.CLOSE:
        return (
            "its connection is gone already, only its owner can let go of the fd: "
            "restart or reload the process"
        )
    return ""


def _destroy(flow: Flow, listener: bool) -> Outcome:
    with Diag() as diag:
        now = _found(diag, flow)
        if now is None:
            return Outcome(False, _WORDS[errno.ESTALE])
        if now.state == State.LISTEN and not listener:
            return Outcome(False, _refusal(now, listener))
        diag.ask(SOCK_DESTROY, _request(now, now.cookie), "destroy a socket")
    return Outcome(True, f"destroyed (it was {State(now.state).name})")


def _found(diag: Diag, flow: Flow) -> Flow | None:
    """The socket which has the flow's addresses now, if it is the same; raises Refused."""
    what = "find a socket"
    answers = diag.ask(SOCK_DIAG_BY_FAMILY, _request(flow, flow.cookie or _NO_COOKIE), what)
    for now in decode(answers, surroundings(), minisocks=True):
        if flow.cookie or (flow.inode and flow.inode == now.inode) or not flow.inode:
            return now
    return None


def _request(flow: Flow, cookie: int) -> bytes:
    """struct inet_diag_req_v2 naming one socket."""
    source, destination = flow.laddr, flow.raddr
    if flow.family == socket.AF_INET:
        source, destination = flow.laddr[12:], flow.raddr[12:]
    identity = _SOCKET_ID.pack(flow.lport, flow.rport, source, destination)
    identity += _INTERFACE_COOKIE.pack(0, cookie)
    return REQUEST.pack(flow.family, socket.IPPROTO_TCP, 0, ALL, identity)
