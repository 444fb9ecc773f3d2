"""Socket addresses: always 16 bytes, one printer.

IPv4 is carried as ``::ffff:a.b.c.d`` (RFC 4291, 2.5.5.2), as the kernel side writes it,
so IPv4, IPv6 and v4-mapped sockets of one peer compare equal.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

V4_PREFIX = bytes(10) + b"\xff\xff"
UNSPECIFIED = bytes(16)


def packed(text: str) -> bytes:
    """The 16 bytes of a textual address; raises ValueError for anything else."""
    address = ipaddress.ip_address(text.split("%")[0])
    return V4_PREFIX + address.packed if address.version == 4 else address.packed


@lru_cache(maxsize=65536)
def printable(address: bytes) -> str:
    """``192.0.2.1`` or ``2001:db8::1``."""
    if address.startswith(V4_PREFIX):
        return ".".join(str(byte) for byte in address[12:])
    return str(ipaddress.IPv6Address(address))


def is_unspecified(address: bytes) -> bool:
    """Whether it is ``0.0.0.0`` or ``::``."""
    return address in (UNSPECIFIED, V4_PREFIX + bytes(4))


def endpoint(address: bytes, port: int) -> str:
    """``192.0.2.1:443`` or ``[2001:db8::1]:443``; an unknown port is ``?``."""
    text = printable(address)
    return f"[{text}]:{port or '?'}" if ":" in text else f"{text}:{port or '?'}"
