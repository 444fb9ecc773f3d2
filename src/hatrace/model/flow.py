"""Flow: one socket's life on one side, as ``struct flow`` of bpf/flow.h lays it out.

`FIELDS` describes each field once; the wire layout, the JSON keys and the documentation of
the capture format come from it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag, StrEnum
from typing import NamedTuple

from hatrace.model.address import endpoint

EPHEMERAL_PORTS = range(32768, 61000)
"""net.ipv4.ip_local_port_range where nobody has set another (ip-sysctl.rst)."""


class State(IntEnum):
    """TCP states as the kernel numbers them (include/net/tcp_states.h)."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12

    @classmethod
    def _missing_(cls, value: object) -> State | None:
        """``STATE_13``: one of a newer kernel, or of a record that is not what it was."""
        if not isinstance(value, int):
            return None
        unknown = int.__new__(cls, value)
        unknown._name_, unknown._value_ = f"STATE_{value}", value
        return unknown


class Flag(IntFlag):
    """``enum flow_flag`` of bpf/flow.h."""

    CONNECTED = 1 << 0
    ACCEPTED = 1 << 1
    LISTENER = 1 << 2
    ADOPTED = 1 << 3
    FIN_SENT = 1 << 4
    FIN_RECEIVED = 1 << 5
    RST_SENT = 1 << 6
    RST_RECEIVED = 1 << 7
    OWNED = 1 << 8
    FAILED = 1 << 9


_ADOPTED, _LISTENER = int(Flag.ADOPTED), int(Flag.LISTENER)
_CONNECTION = int(Flag.CONNECTED | Flag.ACCEPTED)
"""As plain numbers: an IntFlag's ``&`` takes 1 us, and every suspect is asked each second."""


class Condition(StrEnum):
    """What may be wrong with an open flow (the table in docs/capture-format.md)."""

    LIVE = "live"
    IDLE = "idle"
    HALF_CLOSED = "half-closed"
    GHOST = "ghost"
    ORPHAN = "orphan"
    UNANSWERED = "unanswered"
    UNCONNECTED = "unconnected"
    LISTENER = "listener"
    ENDED = "ended"


class Field(NamedTuple):
    """One field on the wire: its name, `struct` code, unit and meaning."""

    name: str
    code: str
    unit: str
    text: str


FIELDS = (
    Field("id", "Q", "", "kernel address of the socket xor a secret of the run; key with born_ns"),
    Field("born_ns", "Q", "ns", "connect(), listen() or, for an accepted one, the handshake"),
    Field("connect_ns", "Q", "ns", "connect()"),
    Field("established_ns", "Q", "ns", "three-way handshake done"),
    Field("fin_ns", "Q", "ns", "the peer's FIN"),
    Field("closed_ns", "Q", "ns", "state became CLOSE while held, or by an abort"),
    Field("released_ns", "Q", "ns", "the owner let go: last reference to the file"),
    Field("gone_ns", "Q", "ns", "the kernel destroyed the socket"),
    Field("moved_ns", "Q", "ns", "last segment with data, either way; a jiffy's precision"),
    Field("sent_bytes", "Q", "bytes", "payload sent, without retransmissions"),
    Field("received_bytes", "Q", "bytes", "payload received"),
    Field("cookie", "Q", "", "SO_COOKIE; 0 unless somebody asked for it"),
    Field("laddr", "16s", "", "local address, 16 bytes"),
    Field("raddr", "16s", "", "remote address, 16 bytes"),
    Field("comm", "16s", "", "name of pid when it connected or accepted, NUL-padded"),
    Field("pid", "I", "", "process (tgid) which owns it; 0 unknown"),
    Field("closer", "I", "", "process (tgid) which let go last; 0 still held"),
    Field("inode", "I", "", "inode of the socket's file; 0 unless a scan saw it open"),
    Field("netns", "I", "", "inode of its network namespace"),
    Field("target", "I", "", "index of the target it counts for"),
    Field("unread_bytes", "I", "bytes", "received, not read; of a listener: connections waiting"),
    Field("unsent_bytes", "I", "bytes", "written, not acknowledged; of a listener: its backlog"),
    Field("lport", "H", "", "local port"),
    Field("rport", "H", "", "remote port"),
    Field("flags", "H", "", "enum flow_flag"),
    Field("error", "H", "errno", "how the connection ended, if badly"),
    Field("family", "B", "", "AF_INET or AF_INET6"),
    Field("state", "B", "", "TCP state, include/net/tcp_states.h"),
)
LAYOUT = struct.Struct("<" + "".join(field.code for field in FIELDS) + "2x")


class Flow(NamedTuple):
    """One flow.  Fields as in `FIELDS`; every time is CLOCK_MONOTONIC in ns, 0 for "not yet"."""

    id: int
    born_ns: int
    connect_ns: int
    established_ns: int
    fin_ns: int
    closed_ns: int
    released_ns: int
    gone_ns: int
    moved_ns: int
    sent_bytes: int
    received_bytes: int
    cookie: int
    laddr: bytes
    raddr: bytes
    comm_bytes: bytes
    pid: int
    closer: int
    inode: int
    netns: int
    target: int
    unread_bytes: int
    unsent_bytes: int
    lport: int
    rport: int
    flags: int
    error: int
    family: int
    state: int

    @property
    def key(self) -> tuple[int, int]:
        """What names this flow within one run: sockets' addresses are reused, births are not."""
        return self.id, self.born_ns

    @property
    def comm(self) -> str:
        return self.comm_bytes.rstrip(b"\0").decode(errors="replace")

    @property
    def local(self) -> str:
        return endpoint(self.laddr, self.lport)

    @property
    def remote(self) -> str:
        return endpoint(self.raddr, self.rport)

    @property
    def preexisting(self) -> bool:
        """Whether it is older than hatrace, so that its birth and past are unknown."""
        return bool(self.flags & _ADOPTED)

    @property
    def held(self) -> bool:
        """Whether a process still has it open."""
        return not self.released_ns and not self.gone_ns

    def condition(self, now_ns: int, idle_ns: int = 0) -> Condition:
        """What it is at ``now_ns``; ``idle`` only if ``idle_ns`` (0: never) passed unmoved."""
        if self.gone_ns:
            return Condition.ENDED
        if self.state == State.LISTEN:
            return Condition.LISTENER
        if self.released_ns:
            return Condition.ORPHAN
        if self.state == State.CLOSE:
            # A listener that was paused (shutdown(2)) is closed, too, and never was connected.
            connected = self.flags & _CONNECTION or (self.closed_ns and not self.flags & _LISTENER)
            return Condition.GHOST if connected else Condition.UNCONNECTED
        if self.state in (State.CLOSE_WAIT, State.LAST_ACK):
            return Condition.HALF_CLOSED
        if self.state == State.SYN_SENT:
            return Condition.UNANSWERED
        if idle_ns and now_ns - max(self.moved_ns, self.established_ns, self.born_ns) > idle_ns:
            return Condition.IDLE
        return Condition.LIVE

    def pack(self) -> bytes:
        return LAYOUT.pack(*self)

    def as_dict(self) -> dict[str, object]:
        """For JSON: keys of `FIELDS`, with addresses, command and state in words."""
        words: dict[str, object] = dict(zip((f.name for f in FIELDS), self, strict=True))
        words |= {
            "id": f"{self.id:016x}",
            "laddr": self.local,
            "raddr": self.remote,
            "comm": self.comm,
            "flags": [flag.name.lower() for flag in Flag(self.flags) if flag.name],
            "state": State(self.state).name if self.state else "",
        }
        del words["lport"], words["rport"]
        return words


def flows(records: bytes | memoryview) -> Iterator[Flow]:
    """The flows of packed records; raises struct.error when a record is cut short."""
    return map(Flow._make, LAYOUT.iter_unpack(records))


def oldest_first(flow: Flow) -> tuple[bool, int, int, int]:
    """A key to sort by.  What is older than hatrace comes before all whose birth was seen: its
    ``born_ns`` is when it was first seen, which may be later than such a birth."""
    return not flow.preexisting, flow.born_ns, flow.inode, flow.id
