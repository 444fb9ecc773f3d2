"""Backend applications of other designs than an event loop: threads, forks, shared listeners.

    python -m hatrace.lab.applications stream PORT SECONDS

They answer HTTP, block while they work, and notice a client that has left when they next read
or write.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
EVENT = b"data: beat\n\n"
BACKLOG = 64
CHILDREN = 3


def slow(link: socket.socket, seconds: float) -> None:
    """Answers one request after ``seconds``."""
    with link, contextlib.suppress(OSError):
        if link.recv(65536):
            time.sleep(seconds)
            link.sendall(OK)


def stream(link: socket.socket, seconds: float) -> None:
    """Sends an event every ``seconds`` until the client is seen to have left; a health check
    is answered at once."""
    with link, contextlib.suppress(OSError):
        request = link.recv(65536)
        if b" /health " in request:
            link.sendall(OK)
        elif request:
            link.sendall(STREAM)
            while True:
                link.sendall(EVENT)
                time.sleep(seconds)


def threads(
    listener: socket.socket, seconds: float, work: Callable[[socket.socket, float], None]
) -> None:
    """A thread for each connection."""
    while True:
        link, _ = listener.accept()
        threading.Thread(target=work, args=(link, seconds), daemon=True).start()


def alone(listener: socket.socket, seconds: float) -> None:
    """One connection after the other."""
    while True:
        slow(listener.accept()[0], seconds)


def forks(listener: socket.socket, seconds: float) -> None:
    """A child for each connection."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        link, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            slow(link, seconds)
            os._exit(0)
        link.close()


def shared(listener: socket.socket, seconds: float) -> None:
    """Children that all take from one listener."""
    for _ in range(CHILDREN):
        if os.fork() == 0:
            break
    alone(listener, seconds)


def parallel(listener: socket.socket, seconds: float) -> None:
    """Children with a listener each, at one port (SO_REUSEPORT)."""
    where = listener.getsockname()
    if os.fork() == 0:
        listener.close()
        listener = _listener(where)
    alone(listener, seconds)


DESIGNS: dict[str, Callable[[socket.socket, float], None]] = {
    "slow": lambda listener, seconds: threads(listener, seconds, slow),
    "stream": lambda listener, seconds: threads(listener, seconds, stream),
    "alone": alone,
    "forks": forks,
    "shared": shared,
    "parallel": parallel,
}


def _listener(where: tuple[str, int]) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(where)
    made.listen(BACKLOG)
    return made


if __name__ == "__main__":
    DESIGNS[sys.argv[1]](_listener(("127.0.0.1", int(sys.argv[2]))), float(sys.argv[3]))
