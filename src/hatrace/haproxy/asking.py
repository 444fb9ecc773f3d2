"""Which socket reaches a process, and asking it there without making matters worse.

A worker's own `stats socket` comes first.  A master forwards to any of its workers (``@!PID``),
but keeps the slot of a client that has left for as long as the worker does not answer
(GH #3351, unfixed): so a worker that did not answer through its master is left alone there for
a while, and a stopped one is never asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from hatrace.haproxy.runtime import Answer, Client, Guard, NoAnswer, Problem
from hatrace.model.topology import CommandSocket, Kind, Level, Process

LEFT_ALONE_S = 300.0
MOST_UNANSWERED = 3
"""Commands through one master without an answer, after which it is not asked any more: each
may hold one of its 10 slots."""
_BY_LEVEL = {Level.ADMIN: 0, Level.OPERATOR: 1, None: 2, Level.USER: 3}
_LOST = (Problem.TIMEOUT, Problem.CUT, Problem.TOO_LONG)
_FULL = (Problem.GUARDED, Problem.QUEUE_FULL)


class Asking:
    """Asks processes; `know` tells it which there are and which sockets they have."""

    def __init__(self, guard: Guard | None = None) -> None:
        self._guard = guard
        self._processes: Mapping[int, Process] = {}
        self._sockets: tuple[CommandSocket, ...] = ()
        self._foreign: set[tuple[int, int | None, str]] = set()
        """Sockets at which somebody else answered."""
        self._alone_until: dict[int, float] = {}
        self._unanswered: dict[int, int] = {}
        """By the master's pid."""

    def know(self, processes: Iterable[Process], sockets: Iterable[CommandSocket]) -> None:
        self._processes = {process.pid: process for process in processes}
        self._sockets = tuple(sockets)
        for table in (self._alone_until, self._unanswered):
            for pid in table.keys() - self._processes.keys():
                del table[pid]

    def sockets(self, pid: int) -> list[CommandSocket]:
        """Its own, those that allow most first."""
        own = (each for each in self._sockets if each.pid == pid and self._usable(each))
        return sorted(own, key=lambda each: _BY_LEVEL[each.level])

    def _usable(self, socket: CommandSocket) -> bool:
        return (socket.pid, socket.inode, socket.path) not in self._foreign

    def not_its_own(self, socket: CommandSocket) -> None:
        """Another process answered there."""
        self._foreign.add((socket.pid, socket.inode, socket.path))

    def client(self, socket: CommandSocket) -> Client:
        process = self._processes.get(socket.pid)
        return Client(socket, process.root if process else "/", self._guard)

    def ask(
        self, process: Process, command: str, deadline_s: float = 3.0, partial: bool = False
    ) -> tuple[Answer, CommandSocket]:
        """Its answer and where it came from; raises NoAnswer.

        Through its master only if it has no socket of its own, or that one is of no use.
        """
        what = f"{command!r} to pid {process.pid}"
        if process.stopped:
            why = "the process is stopped (SIGSTOP or a debugger)"
            raise NoAnswer(Problem.TIMEOUT, what, why, f"kill -CONT {process.pid}")
        if process.kind is Kind.MASTER:
            return self._first(self.sockets(process.pid), command, deadline_s, partial, what)
        own = self.sockets(process.pid)
        if not own:
            return self._through_master(process, command, deadline_s, partial, what)
        try:
            return self._first(own, command, deadline_s, partial, what)
        except NoAnswer as error:
            if error.problem in (*_LOST, *_FULL):  # its master's way ends in the same frontend
                raise
            try:
                return self._through_master(process, command, deadline_s, partial, what)
            except NoAnswer as other:
                asked = other.problem not in (Problem.NOT_THERE, Problem.GUARDED)
                raise (other if asked else error) from None

    def _first(
        self,
        sockets: list[CommandSocket],
        command: str,
        deadline_s: float,
        partial: bool,
        what: str,
    ) -> tuple[Answer, CommandSocket]:
        """From the first socket that answers; raises NoAnswer of the last."""
        error = NoAnswer(Problem.NOT_THERE, what, "it has no command-line socket", _NO_SOCKET)
        for socket in sockets:
            try:
                return self.client(socket).ask(command, deadline_s, partial=partial), socket
            except NoAnswer as caught:
                error = caught
                if caught.problem in _LOST:
                    break
        raise error

    def _through_master(
        self, process: Process, command: str, deadline_s: float, partial: bool, what: str
    ) -> tuple[Answer, CommandSocket]:
        master = process.parent_pid
        sockets = self.sockets(master) if process.kind is not Kind.STANDALONE else []
        if not sockets:
            why = "HAProxy has no command-line socket that reaches it"
            raise NoAnswer(Problem.NOT_THERE, what, why, _NO_SOCKET)
        if time.monotonic() < self._alone_until.get(process.pid, 0):
            why = "it did not answer through its master lately, and each try may cost it a slot"
            raise NoAnswer(Problem.GUARDED, what, why)
        if self._unanswered.get(master, 0) >= MOST_UNANSWERED:
            why = f"{MOST_UNANSWERED} commands through master {master} were never answered"
            raise NoAnswer(Problem.GUARDED, what, why)
        seen_as = process.container_pid or process.pid
        try:
            answer = self.client(sockets[0]).ask(f"@!{seen_as} {command}", deadline_s)
        except NoAnswer as error:
            if error.problem is Problem.TIMEOUT:
                self._alone_until[process.pid] = time.monotonic() + LEFT_ALONE_S
                self._unanswered[master] = self._unanswered.get(master, 0) + 1
            if partial and error.partial and error.problem in _LOST:
                return Answer(error.partial, False), sockets[0]
            raise
        return answer, sockets[0]


_NO_SOCKET = (
    "add to the global section: stats socket /run/haproxy/hatrace.sock mode 600 level operator"
)
