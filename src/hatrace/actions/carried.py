"""Carried: what a worker still holds: its connections in pairs, its ghosts and listeners."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hatrace.actions.haproxies import Haproxies
from hatrace.actions.residue import looked, streams
from hatrace.actions.rows import counted, fds_of, row
from hatrace.model.event import Open, Stream
from hatrace.model.finding import Evidence
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Process


@dataclass(frozen=True, slots=True)
class Carried:
    """As of ``at_ns``."""

    at_ns: int
    flows: tuple[Flow, ...]
    """Listeners and ghosts included."""
    fds: dict[int, int]
    """By inode."""
    streams: tuple[Stream, ...] | None
    """None: it does not answer."""

    @property
    def listeners(self) -> int:
        return sum(flow.state == State.LISTEN for flow in self.flows)

    @property
    def ghosts(self) -> int:
        return sum(flow.state == State.CLOSE for flow in self.flows)

    @property
    def title(self) -> str:
        connections = len(self.flows) - self.listeners - self.ghosts
        said = "it does not answer for its sessions"
        if self.streams is not None:
            said = counted(len(self.streams), "session")
        parts = ", ".join(
            counted(number, noun)
            for number, noun in (
                (connections, "connection"),
                (self.ghosts, "ghost"),
                (self.listeners, "listener"),
            )
        )
        return f"it still carries {parts}; {said}"

    @property
    def cost(self) -> str:
        """What its end cuts."""
        connections = len(self.flows) - self.listeners - self.ghosts
        if not connections:
            return "this cuts no connection"
        return f"this cuts {counted(connections, 'connection')}"

    @property
    def rows(self) -> list[Evidence]:
        notes = self._notes()
        found = []
        for flow in sorted(self.flows, key=lambda each: self.fds.get(each.inode, -1)):
            fd = self.fds.get(flow.inode)
            found.append(row(flow, self.at_ns, fd, notes.get(fd, "") if fd is not None else ""))
        return found

    def _notes(self) -> dict[int, str]:
        """By fd: whose half it is."""
        notes = {}
        for stream in self.streams or ():
            server = f"{stream.backend}/{stream.server}" if stream.server else stream.backend
            if stream.front_fd is not None:
                notes[stream.front_fd] = f"client of {stream.frontend}, to {server or 'nobody'}"
            if stream.back_fd is not None:
                notes[stream.back_fd] = f"to {server} for client {stream.source}"
        return notes

    @property
    def event(self) -> Open:
        return Open(self.at_ns, b"".join(flow.pack() for flow in self.flows), len(self.flows))


def carried(haproxies: Haproxies, process: Process) -> Carried:
    """Look now; raises EnvironmentLacks where its sockets may not be read."""
    seen = looked([process.pid])
    inodes = {inode: fd for (_, inode), fd in fds_of(seen.held).items()}
    said = streams(haproxies, process)
    return Carried(time.monotonic_ns(), tuple(seen.owned), inodes, said)
