"""All TCP sockets of a network namespace, as flows, with tcp_info: about 4 µs a socket.

What sock_diag cannot tell: who holds a socket (only the inode of its file), when it was
born, which side opened it, and anything about a socket that is in no hash table: one that
was never bound, and the ghost, whose connection is gone (see ghosts.py).

Layouts: include/uapi/linux/inet_diag.h, and tcp.h up to tcpi_bytes_retrans (Linux 4.19).
Host byte order, cookies little endian, ports and addresses big endian.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hatrace.model.address import V4_PREFIX
from hatrace.model.flow import EPHEMERAL_PORTS, Flag, Flow, State
from hatrace.sockets.netlink import ATTRIBUTE, Diag, Message, attributes, namespace_of

REQUEST = struct.Struct("=BBBxI48s")
"""struct inet_diag_req_v2: family, protocol, extensions, states, socket id."""
MESSAGE = struct.Struct("=BBBxHH16s16s4xQ4xII4xI")
"""struct inet_diag_msg: family, state, timer; source and destination port, source and
destination address, cookie; receive and send queue, inode."""
INFO = struct.Struct("=44xI4xII8xI48xQQ16xI44xQQ")
"""struct tcp_info: ms since data was sent, data received, an ACK received; round trip in µs;
bytes acknowledged, received; segments received with data; bytes sent, retransmitted."""

INFO_ATTRIBUTE = 2
INFO_EXTENSION = 1 << (INFO_ATTRIBUTE - 1)
_TIME_WAIT_TIMER = 3
NO_COMM = bytes(16)
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

MINISOCKS = 1 << State.TIME_WAIT | 1 << State.NEW_SYN_RECV
ALL = (1 << 13) - 2
"""Every state of include/net/tcp_states.h."""
FULL = ALL & ~MINISOCKS
"""Sockets proper: neither TIME_WAIT nor half-made requests, which nobody can hold."""

# Plain numbers, for the loop: arithmetic on an IntFlag costs a microsecond.
_ESTABLISHED, _SYN_SENT, _CLOSE, _LISTEN, _TIME_WAIT = map(
    int, (State.ESTABLISHED, State.SYN_SENT, State.CLOSE, State.LISTEN, State.TIME_WAIT)
)
_CONNECTED, _ACCEPTED, _OWNED, _FAILED = map(
    int, (Flag.CONNECTED, Flag.ACCEPTED, Flag.OWNED, Flag.FAILED)
)
_AF_INET = int(socket.AF_INET)
_ORPHANED = frozenset(map(int, (State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING, State.LAST_ACK)))
"""States that a socket without a file is in because its owner let go.

In ESTABLISHED or CLOSE_WAIT it waits to be accepted instead: close() leaves both at once.
"""
_PEER_FINISHED = frozenset(map(int, (State.CLOSE_WAIT, State.LAST_ACK, State.CLOSING)))
_FIN_UNACKED = frozenset(map(int, (State.FIN_WAIT1, State.CLOSING, State.LAST_ACK)))
_BY_STATE = {
    State.LISTEN: Flag.LISTENER,
    State.SYN_SENT: Flag.CONNECTED,
    State.FIN_WAIT1: Flag.FIN_SENT,
    State.FIN_WAIT2: Flag.FIN_SENT,
    State.CLOSE_WAIT: Flag.FIN_RECEIVED,
    State.LAST_ACK: Flag.FIN_SENT | Flag.FIN_RECEIVED,
    State.CLOSING: Flag.FIN_SENT | Flag.FIN_RECEIVED,
}
_FLAGS = [int(_BY_STATE.get(State(n), 0) if n else 0) | Flag.ADOPTED.value for n in range(13)]


@dataclass(slots=True)
class Surroundings:
    """What is known around the sockets of one dump, and helps to read them."""

    now_ns: int
    """CLOCK_MONOTONIC; ages in ms are counted back from it, unknown births are set to it."""
    netns: int = 0
    """Inode of the network namespace."""
    ephemeral: range = EPHEMERAL_PORTS
    """net.ipv4.ip_local_port_range."""
    listening: set[int] = field(default_factory=set)
    """Local ports of listeners, filled as they are met (a dump begins with them)."""
    owners: Mapping[int, tuple[int, bytes]] = field(default_factory=dict)
    """Inode to its holder's pid and comm (16 bytes), for those who have read the fds."""

    def direction(self, lport: int, rport: int) -> int:
        """Which side opened a connection; an inference.

        Accepted, if the local port is listened on; or, its listener being gone, if only
        the remote port is an ephemeral one.  Otherwise we connected.
        """
        if lport in self.listening:
            return _ACCEPTED
        if rport in self.ephemeral and lport not in self.ephemeral:
            return _ACCEPTED
        return _CONNECTED


def surroundings(owners: Mapping[int, tuple[int, bytes]] | None = None) -> Surroundings:
    """Of the network namespace that the calling thread is in, now."""
    return Surroundings(
        time.monotonic_ns(), namespace_of() or 0, ephemeral_ports(), owners=owners or {}
    )


def ephemeral_ports() -> range:
    """net.ipv4.ip_local_port_range, there and now; the kernel's own where it cannot be read."""
    try:
        low, high = map(int, _PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        return EPHEMERAL_PORTS
    return range(low, high + 1)


def dump(
    diag: Diag,
    around: Surroundings,
    states: int = FULL,
    minisocks: bool = False,
    lport: int = 0,
) -> Iterator[Flow]:
    """Every TCP socket in ``states`` (a mask of ``1 << State``), IPv4 first, then IPv6.

    Flows are ADOPTED, with ``id`` their cookie, and OWNED if ``around`` knows their holder.
    ``released_ns`` of orphans is now: when they were let go is unknown; ``fin_ns`` is the
    latest that the FIN can have come; ``received_bytes`` of a socket in CLOSE may count the
    peer's FIN as one.  ``minisocks``: FIN_WAIT2
    sockets which the kernel has replaced by a timewait entry, too (`states` chooses
    TIME_WAIT itself).  ``lport``: only those with this local port, 0: all; the kernel chooses.
    Without LISTEN in ``states`` directions rest on port ranges alone.
    A socket that changes its state meanwhile may come twice or not at all.
    Raises netlink.Refused.
    """
    ends = lport.to_bytes(2, "big") + bytes(46)
    for family in (socket.AF_INET, socket.AF_INET6):
        request = REQUEST.pack(family, socket.IPPROTO_TCP, INFO_EXTENSION, states, ends)
        messages = diag.dump(request, "cannot list TCP sockets")
        yield from decode(messages, around, minisocks)


def decode(
    messages: Iterable[Message], around: Surroundings, minisocks: bool = False
) -> Iterator[Flow]:
    """Flows of inet_diag messages.  One long loop: at 70,000 sockets each call counts."""
    now, netns, listening = around.now_ns, around.netns, around.listening
    unpack, unpack_info, make = MESSAGE.unpack_from, INFO.unpack_from, tuple.__new__
    host_order = socket.ntohs
    owner, nobody = around.owners.get, (0, NO_COMM)
    seen: dict[int, tuple[int, bytes]] = {}
    for datagram, start, end in messages:
        (family, state, timer, lport, rport, source, destination, cookie, unread, unsent, inode) = (
            unpack(datagram, start)
        )
        if timer == _TIME_WAIT_TIMER and state != _TIME_WAIT and not minisocks:
            continue
        lport, rport = host_order(lport), host_order(rport)
        if family == _AF_INET:
            source, destination = V4_PREFIX + source[:4], V4_PREFIX + destination[:4]
        flags = _FLAGS[state]
        connect = moved = fin = released = sent = received = 0
        if state == _LISTEN:
            listening.add(lport)
        elif state == _SYN_SENT:
            connect = now
            unsent -= unsent > 0
        else:
            flags |= around.direction(lport, rport)
            info = _info_offset(datagram, start, end, seen)
            if info:
                (quiet_out, quiet_in, quiet_ack, trip, acked, received, segments, sent, again) = (
                    unpack_info(datagram, info)
                )
                sent -= again
                received = received if segments else 0
                moved = now - (quiet_out if quiet_out < quiet_in else quiet_in) * 1_000_000
            if state != _ESTABLISHED:
                if state in _PEER_FINISHED:
                    # The FIN takes a place in the sequence, and so in the queue and the count.
                    unread -= unread > 0
                    received -= received > 0
                    fin = now - quiet_ack * 1_000_000 if info else now
                if state in _FIN_UNACKED:
                    unsent -= unsent > 0
                if not inode and state in _ORPHANED:
                    released = now
                if state == _CLOSE and info and rport and not (trip or acked):
                    flags |= _FAILED
        pid, comm = owner(inode, nobody)
        if pid:
            flags |= _OWNED
        yield make(
            Flow,
            (
                *(cookie, now, connect, 0, fin, 0, released, 0, moved, sent, received, cookie),
                *(source, destination, comm, pid, 0, inode, netns, 0, unread, unsent),
                *(lport, rport, flags, 0, family, state),
            ),
        )


def _info_offset(datagram: bytes, start: int, end: int, seen: dict[int, tuple[int, bytes]]) -> int:
    """Where struct tcp_info starts in a message; 0 without one.

    ``seen``: by length of the message, where it was last time and its attribute's header.
    The header is compared before the memory is trusted, else the attributes are walked.
    """
    length = end - start
    if length in seen:
        ahead, header = seen[length]
        if datagram[start + ahead - len(header) : start + ahead] == header:
            return start + ahead
    for kind, first, last in attributes(datagram, start + MESSAGE.size, end):
        if kind == INFO_ATTRIBUTE and last - first >= INFO.size:
            seen[length] = first - start, datagram[first - ATTRIBUTE.size : first]
            return first
    return 0
