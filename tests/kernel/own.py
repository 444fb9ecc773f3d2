"""hatrace attached to the test's own process, and connections of that process on loopback."""

from __future__ import annotations

import os
import socket
import struct

from hatrace.kernel.maps import Sizes
from hatrace.kernel.probes import Probes, attach
from hatrace.model.capture_info import Scope, ScopeKind

ME = os.getpid()
MINE = Scope(ScopeKind.PID, (str(ME),))
_ABORT = struct.pack("ii", 1, 0)

Pair = tuple[socket.socket, socket.socket]
"""A connection: its client, its accepted end."""


def attached(
    *pids: int, rung: str | None = None, scope: Scope | None = None, sizes: Sizes | None = None
) -> Probes:
    """The best rung, or the named one, beside these processes; what they hold is known by then."""
    scope = scope or Scope(ScopeKind.PID, tuple(map(str, pids)))
    probes = attach(scope, rung, sizes=sizes)
    assert probes is not None and rung in (None, probes.rung)
    probes.follow(pids)
    probes.inventory()
    return probes


def reset(end: socket.socket) -> None:
    """Close with a RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    end.close()
