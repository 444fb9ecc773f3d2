"""A stand-in for HAProxy's command-line socket that really speaks its protocol over AF_UNIX
or TCP, and can answer badly: cut, slowly, with too much, or not at all.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

Behaviour = Callable[[socket.socket, str], None]
"""Gets the accepted connection and the line that came."""


def says(text: str) -> Behaviour:
    """An answer, then closed, as a worker does."""

    def behave(peer: socket.socket, line: str) -> None:
        peer.sendall(text.encode())

    return behave


def says_and_stays(text: str) -> Behaviour:
    """An answer, and then open until the client leaves, as a master does."""

    def behave(peer: socket.socket, line: str) -> None:
        peer.sendall(text.encode())
        peer.recv(1)

    return behave


def drips(text: str, every_s: float) -> Behaviour:
    """A byte now and then."""

    def behave(peer: socket.socket, line: str) -> None:
        for char in text:
            peer.sendall(char.encode())
            time.sleep(every_s)

    return behave


def is_silent(peer: socket.socket, line: str) -> None:
    """Reads the command and never answers."""
    peer.recv(1)


class StandIn:
    """What was asked, in order, and how many connections there were at once."""

    def __init__(self, listener: socket.socket, behaviour: Behaviour) -> None:
        self.asked: list[str] = []
        self.most_at_once = 0
        self._peers: list[socket.socket] = []
        self._lock = threading.Lock()
        self._behaviour = behaviour
        self._listener = listener
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        with self._lock:
            self._peers = [*filter(_client_is_there, self._peers), peer]
            self.most_at_once = max(self.most_at_once, len(self._peers))
        with peer, contextlib.suppress(OSError):
            line = b""
            while not line.endswith(b"\n") and (data := peer.recv(4096)):
                line += data
            self.asked.append(line.decode().rstrip("\n"))
            self._behaviour(peer, line.decode().rstrip("\n"))


def _client_is_there(peer: socket.socket) -> bool:
    if peer.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(peer, select.POLLRDHUP)
    return not poll.poll(0)


@contextlib.contextmanager
def standing_in(path: Path, behaviour: Behaviour) -> Iterator[StandIn]:
    """Listens at ``path``."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(10)
        yield StandIn(listener, behaviour)
