"""inet_diag messages, made with the kernel's layout, become flows."""

from __future__ import annotations

import socket
import struct

import pytest

from hatrace.model.address import is_unspecified, packed
from hatrace.model.flow import Condition, Flag, Flow, State, flows
from hatrace.sockets import tcp_diag
from hatrace.sockets.netlink import ATTRIBUTE, Message
from hatrace.sockets.tcp_diag import Surroundings, decode

NOW = 10**12
SHUTDOWN, TOS = 8, 5


def info(
    sent: int = 0,
    received: int = 0,
    again: int = 0,
    quiet_ms: tuple[int, int, int] = (5000, 4000, 3000),
    round_trip: int = 80,
    segments: int = 1,
) -> bytes:
    """struct tcp_info of Linux 6.x, 248 bytes; the fields placed by offset, as tcp.h has them."""
    raw = bytearray(248)
    for offset, value in ((44, quiet_ms[0]), (52, quiet_ms[1]), (56, quiet_ms[2])):
        struct.pack_into("=I", raw, offset, value)
    struct.pack_into("=I", raw, 68, round_trip)
    struct.pack_into("=Q", raw, 120, sent + 1 if round_trip else 0)
    struct.pack_into("=Q", raw, 128, received)
    struct.pack_into("=I", raw, 152, segments)
    struct.pack_into("=QQ", raw, 200, sent + again, again)
    return bytes(raw)


def attribute(kind: int, payload: bytes) -> bytes:
    length = ATTRIBUTE.size + len(payload)
    return ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def message(
    state: int,
    lport: int = 443,
    rport: int = 50000,
    *,
    family: int = socket.AF_INET,
    local: bytes | None = None,
    remote: bytes | None = None,
    tcp_info: bytes | None = None,
    queues: tuple[int, int] = (0, 0),
    inode: int = 77,
    timer: int = 0,
    before: bytes = b"",
) -> Message:
    """struct inet_diag_msg with attributes, somewhere inside a datagram."""
    local = local or socket.inet_aton("192.0.2.1")
    remote = remote or socket.inet_aton("192.0.2.9")
    payload = struct.pack("=BBBB", family, state, timer, 0)
    payload += struct.pack(">HH", lport, rport) + local.ljust(16, b"\0") + remote.ljust(16, b"\0")
    payload += struct.pack("=IQ", 0, 4711) + struct.pack("=IIIII", 0, *queues, 0, inode)
    payload += before or attribute(SHUTDOWN, b"\0")
    if tcp_info is not None:
        payload += attribute(tcp_diag.INFO_ATTRIBUTE, tcp_info)
    return b"\xff" * 32 + payload + b"\xff" * 32, 32, 32 + len(payload)


def one(*args: int, around: Surroundings | None = None, **fields: object) -> Flow:
    around = around or Surroundings(NOW, netns=99)
    [flow] = decode([message(*args, **fields)], around)  # type: ignore[arg-type]
    return flow


def test_an_established_connection() -> None:
    flow = one(1, tcp_info=info(sent=1000, received=50, again=300), queues=(7, 8))
    assert (flow.local, flow.remote) == ("192.0.2.1:443", "192.0.2.9:50000")
    assert flow.laddr == packed("192.0.2.1")
    assert (flow.sent_bytes, flow.received_bytes) == (1000, 50)
    assert (flow.unread_bytes, flow.unsent_bytes) == (7, 8)
    assert (flow.id, flow.cookie, flow.inode, flow.netns, flow.pid) == (4711, 4711, 77, 99, 0)
    assert flow.moved_ns == NOW - 4_000_000_000, "the younger of sent and received"
    assert flow.born_ns == NOW and flow.preexisting
    assert type(flow) is Flow and next(flows(flow.pack())) == flow


def test_v6_and_v4_mapped_addresses_stay_as_they_are() -> None:
    flow = one(1, family=socket.AF_INET6, local=packed("2001:db8::1"), remote=packed("192.0.2.7"))
    assert flow.local == "[2001:db8::1]:443" and flow.remote == "192.0.2.7:50000"
    assert flow.family == socket.AF_INET6


def test_a_listener_and_what_it_says_of_the_others() -> None:
    around = Surroundings(NOW)
    anybody = socket.inet_aton("0.0.0.0")
    messages = [message(10, 8443, 0, remote=anybody, queues=(3, 128)), message(1, 8443, 50000)]
    listener, accepted = decode(messages, around)
    assert (listener.unread_bytes, listener.unsent_bytes) == (3, 128)
    assert Flag.LISTENER in Flag(listener.flags) and is_unspecified(listener.raddr)
    assert Flag.ACCEPTED in Flag(accepted.flags) and around.listening == {8443}


@pytest.mark.parametrize(
    ("lport", "rport", "side"),
    [
        (443, 40000, Flag.ACCEPTED),
        (40000, 443, Flag.CONNECTED),
        (40000, 50000, Flag.CONNECTED),
        (1025, 8080, Flag.CONNECTED),
    ],
)
def test_direction_by_ports_when_no_listener_is_left(lport: int, rport: int, side: Flag) -> None:
    assert Flag(one(1, lport, rport).flags) & (Flag.ACCEPTED | Flag.CONNECTED) == side


def test_fins_are_no_bytes_and_date_the_half_closed() -> None:
    flow = one(8, tcp_info=info(received=11), queues=(1, 0))
    assert (flow.received_bytes, flow.unread_bytes) == (10, 0)
    assert flow.fin_ns == NOW - 3_000_000_000 and not flow.released_ns
    assert flow.condition(NOW) is Condition.HALF_CLOSED
    assert one(4, queues=(0, 1)).unsent_bytes == 0


def test_orphans_are_let_go_and_the_unaccepted_are_not() -> None:
    for state in (4, 5, 9, 11):
        assert one(state, inode=0).condition(NOW) is Condition.ORPHAN
        assert one(state, inode=5).condition(NOW) is not Condition.ORPHAN
    assert not one(1, inode=0).released_ns and not one(8, inode=0).released_ns


def test_unanswered() -> None:
    flow = one(2, 40000, 443, tcp_info=info(), queues=(0, 1))
    assert flow.condition(NOW) is Condition.UNANSWERED
    assert (flow.connect_ns, flow.moved_ns, flow.unsent_bytes) == (NOW, 0, 0)
    assert flow.flags & Flag.CONNECTED


def test_minisocks_come_only_when_asked_for() -> None:
    shown = [message(5, inode=0, timer=3), message(6, inode=0, timer=3)]
    assert [f.state for f in decode(shown, Surroundings(NOW))] == [State.TIME_WAIT]
    assert len(list(decode(shown, Surroundings(NOW), minisocks=True))) == 2


def test_destroyed_without_ever_being_established() -> None:
    never = one(7, tcp_info=info(round_trip=0, segments=0))
    assert never.flags & Flag.FAILED
    assert not one(7, tcp_info=info(sent=1)).flags & Flag.FAILED
    aborted = one(7, rport=0, tcp_info=info(round_trip=0, segments=0))
    assert not aborted.flags & Flag.FAILED, "cleared by its owner's abort: nobody can tell"


def test_a_lone_fin_is_not_counted_as_received() -> None:
    assert one(7, tcp_info=info(received=1, segments=0)).received_bytes == 0


def test_attributes_may_stand_anywhere() -> None:
    """The place is remembered by length, and not trusted where another attribute stands."""
    filler = attribute(TOS, b"t") + attribute(SHUTDOWN, b"s")
    a = message(1, tcp_info=info(sent=5), before=filler)
    later = attribute(tcp_diag.INFO_ATTRIBUTE, info(sent=6)) + filler
    b = message(1, before=later)
    assert a[2] - a[1] == b[2] - b[1], "the same length"
    assert [f.sent_bytes for f in decode([a, b, a], Surroundings(NOW))] == [5, 6, 5]


def test_without_tcp_info_or_with_too_little_of_it() -> None:
    for tcp_info in (None, info()[:100]):
        flow = one(1, tcp_info=tcp_info)
        assert (flow.sent_bytes, flow.moved_ns) == (0, 0)


def test_owners_are_joined_by_inode() -> None:
    around = Surroundings(NOW, owners={77: (1234, b"haproxy".ljust(16, b"\0"))})
    flow = one(1, around=around)
    assert (flow.pid, flow.comm) == (1234, "haproxy") and flow.flags & Flag.OWNED
    assert not one(1, inode=78, around=around).flags & Flag.OWNED


def test_masks() -> None:
    assert tcp_diag.FULL & 1 << State.LISTEN and tcp_diag.FULL & 1 << State.FIN_WAIT2
    assert not tcp_diag.FULL & 1 << State.TIME_WAIT
    assert tcp_diag.ALL & 1 << State.TIME_WAIT and tcp_diag.ALL & 1 << State.NEW_SYN_RECV
