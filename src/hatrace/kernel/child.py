"""The loader's process: it may be started before it is known what is to be loaded.

It takes 0.1 s to be ready, and twice as much to find out which rung works and to have the kernel
verify its programs; the session's own imports take longer: side by side they cost the time of
one.  When its parent ends without an order, so does it, once it is ready; nothing was attached.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys


class Child:
    """The process, and our end of the socket to it; ``order``: what it will probably be told."""

    def __init__(self, order: str) -> None:
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hatrace.kernel.loader", str(theirs.fileno()), order],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )

    def end(self) -> list[str]:
        """Waits for its end, not for ever; returns what it said on stderr."""
        self.link.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self.process.communicate()[1].decode(errors="replace").strip().splitlines()


_ready: list[Child] = []


def start_ahead(rung: str | None) -> None:
    """Start one now, for the next `take`, if this rung (None: the best) will want one."""
    if rung != "netlink":
        _ready.append(Child(expected(rung)))


def expected(rung: str | None) -> str:
    """The order (order.py) that most sessions give."""
    return json.dumps({"rung": rung, "sizes": None})


def take(order: str) -> Child:
    """The one that was started ahead, or a new one."""
    return _ready.pop() if _ready else Child(order)
