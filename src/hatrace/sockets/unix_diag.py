"""All AF_UNIX sockets of a network namespace: name, peer, a listener's queue and who waits.

Layouts: include/uapi/linux/unix_diag.h; what the fields mean: net/unix/diag.c.  The peer
of a connection that still waits in a listener's queue has no file yet, and no inode.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from enum import IntEnum

from hatrace.model.event import UnixSocket
from hatrace.sockets.names import printable
from hatrace.sockets.netlink import Diag, Message, attributes

_REQUEST = struct.Struct("=BBxxIIIQ")
"""struct unix_diag_req: family, protocol, states, inode, what to show, cookie."""
_MESSAGE = struct.Struct("=BBBxIQ")
"""struct unix_diag_msg: family, type, state, inode, cookie."""
_TWO = struct.Struct("=II")
"""struct unix_diag_rqlen: receive and send queue."""
_SHOW_NAME, _SHOW_PEER, _SHOW_ICONS, _SHOW_RQLEN = 0x1, 0x4, 0x8, 0x10


class _Attribute(IntEnum):
    NAME = 0
    PEER = 2
    ICONS = 3
    RQLEN = 4


def dump(diag: Diag, queues: bool = True) -> Iterator[UnixSocket]:
    """Every AF_UNIX socket; raises netlink.Refused.

    A listener's ``waiting`` has a 0 for each client that left while its connection waited.
    """
    show = _SHOW_NAME | _SHOW_PEER | (_SHOW_ICONS | _SHOW_RQLEN if queues else 0)
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0xFFFFFFFF, 0, show, 0xFFFFFFFFFFFFFFFF)
    return map(_decode, diag.dump(request, "cannot list AF_UNIX sockets"))


def _decode(message: Message) -> UnixSocket:
    datagram, start, end = message
    _family, _type, state, inode, _cookie = _MESSAGE.unpack_from(datagram, start)
    path, peer, queue, limit = "", 0, 0, 0
    waiting: tuple[int, ...] = ()
    for kind, first, last in attributes(datagram, start + _MESSAGE.size, end):
        if kind == _Attribute.PEER:
            peer = int.from_bytes(datagram[first:last], "little")
        elif kind == _Attribute.NAME:
            path = name(datagram[first:last])
        elif kind == _Attribute.RQLEN:
            queue, limit = _TWO.unpack_from(datagram, first)
        elif kind == _Attribute.ICONS:
            waiting = struct.unpack_from(f"={(last - first) // 4}I", datagram, first)
    return UnixSocket(inode, state, path, peer, queue, limit, waiting)


def name(address: bytes) -> str:
    """``sun_path`` in words: a path, an abstract name as ``@name``; safe to print."""
    if address[:1] == b"\0":
        return "@" + printable(address[1:])
    return printable(address.split(b"\0", 1)[0])
