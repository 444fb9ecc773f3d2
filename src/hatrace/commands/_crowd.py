"""Courtesy: hatrace never takes the last places of a command-line socket."""

from __future__ import annotations

from hatrace.haproxy.runtime import Guard
from hatrace.model.event import CommandSockets
from hatrace.model.topology import CommandSocket
from hatrace.sockets.command_sockets import command_sockets
from hatrace.sockets.holders import Finder

SPARE = {True: 2, False: 1}
"""Places that must be free before hatrace takes one for some milliseconds: of a master's
socket, which is the last that an operator has, and of a worker's."""


def crowded(seen: CommandSockets, socket: CommandSocket) -> str | None:
    """Why not to connect now; None: go ahead."""
    found = next((s for s in seen.sockets if s.path == socket.path and s.inode), None)
    if found is None:
        return "its listener was not found" if socket.master else None
    listener = next((unix for unix in seen.unix if unix.inode == found.inode), None)
    if listener is not None and listener.queue:
        return f"{listener.queue} connections wait there to be accepted"
    accepted = [u for u in seen.unix if listener and u.path == listener.path and u is not listener]
    free = (found.limit or 10) - len(accepted)
    enough = free >= SPARE[socket.master]
    return None if enough else f"{len(accepted)} of its {found.limit or 10} slots are used"


def guard() -> Guard:
    """For one thread that asks: the sockets as they are at each question.

    Holders are looked for only where the listener cannot be told without them.
    """
    finder = Finder()

    def ask(socket: CommandSocket) -> str | None:
        seen = command_sockets([socket], None)
        if not any(one.inode for one in seen.sockets):
            seen = command_sockets([socket], finder)
        return crowded(seen, socket)

    return ask
