"""Who has the local port of a bind that HAProxy wants: the kernel is asked, by a bind of its kind.

HAProxy binds with SO_REUSEADDR and SO_REUSEPORT, so neither its own older listeners nor what
they accepted stand in its way; an outgoing connection's source port does, also in TIME_WAIT.
The bind made here never listens, and is undone at once; where somebody listens, none is made.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from functools import partial

from hatrace.errors import HatraceError
from hatrace.model.address import V4_PREFIX, is_unspecified, printable
from hatrace.model.event import Holder
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Bind, TakenPort
from hatrace.sockets import tcp_diag
from hatrace.sockets.holders import Finder
from hatrace.sockets.names import comm
from hatrace.sockets.netlink import Diag, within

LISTENING = 1 << State.LISTEN
MOST_BINDS = 256
MOST_SOCKETS = 20
"""Of one bind: enough to see."""


def taken_ports(wanted: Mapping[int, Sequence[Bind]], finder: Finder) -> tuple[TakenPort, ...]:
    """What stands in the way of each bind, by the process which wants it.

    Pass the same ``finder`` each time.  A network namespace that cannot be entered has none.
    """
    found: list[tuple[int, Bind, Flow]] = []
    for pid, binds in wanted.items():
        try:
            rows = within(pid, partial(in_the_way, binds[:MOST_BINDS]))
        except HatraceError:
            continue
        found += [(pid, bind, flow) for bind, flow in rows]
    held = finder.find({flow.inode for _, _, flow in found}) if found else {}
    return tuple(_taken(*one, held.get(one[2].inode, ())) for one in found)


def in_the_way(binds: Sequence[Bind]) -> list[tuple[Bind, Flow]]:
    """In the network namespace that this thread is in, those that somebody holds first.

    Raises netlink.Refused.
    """
    found: list[tuple[Bind, Flow]] = []
    around = tcp_diag.surroundings()
    with Diag() as diag:
        listening = [(one.laddr, one.lport) for one in tcp_diag.dump(diag, around, LISTENING)]
        for bind in binds:
            ours = any(p == bind.port and concerns(bind.address, a) for a, p in listening)
            if not ours and refused(bind.address, bind.port):
                rows = tcp_diag.dump(diag, around, tcp_diag.ALL, True, bind.port)
                near = [flow for flow in rows if concerns(bind.address, flow.laddr)]
                near.sort(key=lambda flow: not flow.inode)
                found += [(bind, flow) for flow in near[:MOST_SOCKETS]]
    return found


def refused(address: bytes, port: int) -> bool:
    """Whether the kernel refuses HAProxy this bind because the port is taken."""
    family = socket.AF_INET if address.startswith(V4_PREFIX) else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            probe.bind((printable(address), port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def concerns(wanted: bytes, local: bytes) -> bool:
    """Whether a socket bound to ``local`` has the address that is wanted, or one of them."""
    if wanted == local or is_unspecified(local):
        return True
    both = not wanted.startswith(V4_PREFIX) or local.startswith(V4_PREFIX)
    return is_unspecified(wanted) and both


def _taken(pid: int, bind: Bind, flow: Flow, held: Sequence[Holder]) -> TakenPort:
    holder = held[0] if held else None
    return TakenPort(
        wanted_by=pid,
        bind=bind,
        local=flow.laddr,
        remote=flow.raddr,
        remote_port=flow.rport,
        state=flow.state,
        inode=flow.inode,
        pid=holder.pid if holder else 0,
        fd=holder.fd if holder else None,
        comm=comm(holder.pid) if holder else "",
    )
