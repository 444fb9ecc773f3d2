"""unix_diag messages become sockets with printable names."""

from __future__ import annotations

import struct

from hatrace.model.event import UnixSocket
from hatrace.sockets.netlink import ATTRIBUTE
from hatrace.sockets.unix_diag import _decode, name


def attribute(kind: int, payload: bytes) -> bytes:
    length = ATTRIBUTE.size + len(payload)
    return ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def decoded(state: int, inode: int, *attributes: bytes) -> UnixSocket:
    payload = struct.pack("=BBBxIQ", 1, 1, state, inode, 5) + b"".join(attributes)
    return _decode((b"...." + payload, 4, 4 + len(payload)))


def test_a_listener_with_waiting_clients() -> None:
    seen = decoded(
        10,
        100,
        attribute(0, b"/run/haproxy.sock\0"),
        attribute(3, struct.pack("=III", 7, 0, 9)),
        attribute(4, struct.pack("=II", 3, 10)),
    )
    assert seen == UnixSocket(100, 10, "/run/haproxy.sock", 0, 3, 10, (7, 0, 9))


def test_a_connection_and_one_whose_peer_has_closed() -> None:
    assert decoded(1, 5, attribute(2, struct.pack("=I", 6))) == UnixSocket(5, 1, "", 6, 0, 0)
    assert decoded(1, 5, attribute(2, bytes(4))).peer_inode == 0
    assert decoded(1, 5, attribute(9, b"unknown")).peer_inode == 0


def test_names() -> None:
    assert name(b"/run/a.sock\0") == "/run/a.sock"
    assert name(b"\0abstract") == "@abstract"
    assert name(b"\0a\0b") == "@a\\x00b"
    assert name(b"/tmp/\x1b[2J\xff\0rest") == "/tmp/\\x1b[2J\\xff"
