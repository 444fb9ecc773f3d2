"""Haproxies: HAProxy's processes on this host, which belong together, and how to ask each."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from hatrace.haproxy import arguments, parse, settings, sockets
from hatrace.haproxy.asking import Asking
from hatrace.haproxy.config import Configuration
from hatrace.haproxy.config_words import address
from hatrace.haproxy.discovery import Finder, reloaded
from hatrace.haproxy.parse import ListedProcess
from hatrace.haproxy.runtime import Guard, NoAnswer, Problem
from hatrace.model.address import is_unspecified, printable
from hatrace.model.topology import CommandSocket, Kind, Process

CURRENT = (Kind.WORKER, Kind.STANDALONE)
MOST_SOCKETS = 8
"""Command-line sockets of one worker that are tried until one is its own."""


@dataclass(frozen=True, slots=True)
class Family:
    """One HAProxy: a master with its workers, or processes that replaced each other (-sf)."""

    processes: tuple[Process, ...]

    @property
    def master(self) -> Process | None:
        return next((each for each in self.processes if each.kind is Kind.MASTER), None)

    @property
    def workers(self) -> tuple[Process, ...]:
        """All that serve or served, the current ones first."""
        serving = (each for each in self.processes if each.kind is not Kind.MASTER)
        return tuple(sorted(serving, key=lambda each: (each.kind not in CURRENT, each.pid)))

    def __contains__(self, pid: int) -> bool:
        return any(pid == each.pid for each in self.processes)

    def __str__(self) -> str:
        head = self.master or self.workers[0]
        return f"{'master' if head.kind is Kind.MASTER else 'process'} {head.pid}"


class Haproxies:
    """As of the latest `look`."""

    def __init__(self, guard: Guard | None) -> None:
        self._finder = Finder()
        self._asking = Asking(guard)
        self._read: dict[tuple[int, int], Configuration | None] = {}
        self.processes: tuple[Process, ...] = ()
        self.old: dict[int, bool] = {}
        """By pid: whether its master lists it among the old workers."""

    def look(self) -> None:
        """Find them anew."""
        self.processes = self._finder.scan()
        found: list[CommandSocket] = []
        for process in self.processes:
            found += sockets.of_process(process, self._configuration(process))
        self._asking.know(self.processes, found)
        listed = {pid: each for master in self._masters() for pid, each in self._listed(master)}
        self.processes = tuple(
            reloaded(each, listed[each.pid].reloads, listed[each.pid].version)
            if each.pid in listed
            else each
            for each in self.processes
        )
        self.old = {pid: each.old for pid, each in listed.items()}

    def _masters(self) -> list[Process]:
        return [each for each in self.processes if each.kind is Kind.MASTER]

    def _listed(self, master: Process) -> list[tuple[int, ListedProcess]]:
        """What a master's `show proc` says, by pid as seen from here; empty without an answer."""
        try:
            said = parse.processes(self.ask(master, "show proc"))
        except NoAnswer:
            return []
        by_inner = {
            each.container_pid or each.pid: each.pid
            for each in self.processes
            if master.pid in (each.pid, each.parent_pid)
        }
        return [(by_inner[each.pid], each) for each in said if each.pid in by_inner]

    def _configuration(self, process: Process) -> Configuration | None:
        """Read once; None: not readable, or not the one in force."""
        key = process.pid, process.started_ns
        if process.kind not in CURRENT:
            return None
        if key not in self._read:
            try:
                self._read[key] = settings.load(process).configuration
            except (OSError, ValueError):
                self._read[key] = None
        return self._read[key]

    def get(self, pid: int) -> Process | None:
        return next((each for each in self.processes if each.pid == pid), None)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(each.pid for each in self.processes)

    def families(self) -> tuple[Family, ...]:
        return families(self.processes)

    def ask(self, process: Process, command: str, deadline_s: float = 3.0) -> str:
        """Its answer; raises NoAnswer."""
        answer, _ = self._asking.ask(process, command, deadline_s)
        return answer.text

    def identify(self, process: Process) -> dict[str, str]:
        """`show info` of that very process, after which `ask` reaches it; raises NoAnswer.

        A path may belong to another process by now: who answers there says its pid.
        """
        seen_as = str(process.container_pid or process.pid)
        for _ in range(MOST_SOCKETS):
            answer, socket = self._asking.ask(process, "show info")
            values = parse.info(answer.text)
            if values.get("Pid") == seen_as:
                return values
            self._asking.not_its_own(socket)
        what = f"'show info' to pid {process.pid}"
        raise NoAnswer(Problem.NOT_THERE, what, "only other processes answer on its sockets")

    def has_own_socket(self, process: Process) -> bool:
        """Whether it is asked directly, so that a slow question takes no slot of a master's."""
        return bool(self._asking.sockets(process.pid))

    def by_hand(self, process: Process, command: str) -> str:
        """The question as a shell command; empty if nothing reaches the process."""
        own = self._asking.sockets(process.pid)
        if own:
            return _shell(own[0], process, command)
        masters = self._asking.sockets(process.parent_pid)
        master = self.get(process.parent_pid)
        if not masters or master is None:
            return ""
        return _shell(masters[0], master, f"@!{process.container_pid or process.pid} {command}")


def families(processes: Iterable[Process]) -> tuple[Family, ...]:
    """Who belongs together, by parent or by ``-sf`` and ``-st`` of the command line."""
    by_pid = {each.pid: each for each in processes}
    head = {pid: pid for pid in by_pid}
    for process in by_pid.values():
        parent = by_pid.get(process.parent_pid)
        if parent is not None and parent.kind is Kind.MASTER:
            _join(head, parent.pid, process.pid)
        elif process.kind is not Kind.MASTER:
            for pid in arguments.parse(process.command_line).replaces:
                if pid in by_pid and by_pid[pid].kind is Kind.OLD_WORKER:
                    _join(head, process.pid, pid)
    found: dict[int, list[Process]] = {}
    for process in by_pid.values():
        found.setdefault(head[process.pid], []).append(process)
    return tuple(Family(tuple(members)) for members in found.values())


def _join(head: dict[int, int], one: int, other: int) -> None:
    """Both groups become one."""
    gone, stays = head[other], head[one]
    for pid, known in head.items():
        if known == gone:
            head[pid] = stays


def _shell(socket: CommandSocket, owner: Process, command: str) -> str:
    """``echo 'show info' | socat -t 5 - UNIX-CONNECT:/run/haproxy.sock``."""
    where = address(socket.path)
    if where is None or (where.path is None and where.host is None):
        return ""
    if where.path is None:
        host = where.host or b""
        name = "127.0.0.1" if is_unspecified(host) else printable(host)
        target = f"TCP:[{name}]:{where.low}" if ":" in name else f"TCP:{name}:{where.low}"
    elif where.path.startswith("@"):
        target = f"ABSTRACT-CONNECT:{where.path[1:]}"
    else:
        target = f"UNIX-CONNECT:{owner.root.rstrip('/')}{where.path}"
    return f"echo {shlex.quote(command)} | socat -t 5 - {shlex.quote(target)}"


def title(process: Process) -> str:
    """``worker 812``, ``old worker 640 (1 reload ago)``, ``process 900``."""
    if process.kind is Kind.STANDALONE:
        return f"process {process.pid}"
    if process.kind is Kind.OLD_WORKER and process.reloads:
        ago = f"{process.reloads} reload{'s' if process.reloads > 1 else ''} ago"
        return f"old worker {process.pid} ({ago})"
    return f"{process.kind.value.replace('-', ' ')} {process.pid}"
