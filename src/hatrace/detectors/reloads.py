"""Generations: which worker took over from which, and since when a worker is an old one."""

from __future__ import annotations

from collections.abc import Iterable

from hatrace.detectors import words
from hatrace.model.flow import Flow
from hatrace.model.topology import Kind, Process
from hatrace.model.world import World

CURRENT = (Kind.WORKER, Kind.STANDALONE)
REPLACES = ("-sf", "-st")
"""Options of a command line before the pids that a new process replaces."""
LOADING_NS = 60_000_000_000
"""No configuration takes longer to load."""
FIRST_NS = 10_000_000_000
"""By then who serves has answered hatrace's first question, on a busy host, too."""


def old_workers(world: World) -> list[Process]:
    """Those that a reload left behind, the oldest first."""
    old = [one for one in world.processes.values() if one.kind is Kind.OLD_WORKER]
    return sorted(old, key=lambda one: (one.started_ns, one.pid))


def current_workers(world: World) -> list[Process]:
    """Those that today's configuration runs in."""
    found = [one for one in world.processes.values() if one.kind in CURRENT]
    return sorted(found, key=lambda one: (one.started_ns, one.pid))


def current_of(world: World, one: Process) -> list[Process]:
    """The current workers of its own HAProxy; of all, where none is known to be that."""
    current = current_workers(world)
    own = [each for each in current if each.pid == one.pid or same_haproxy(world, each, one)]
    return own or current


def retired_ns(world: World, old: Process) -> int | None:
    """When its successor started: since then it is an old worker.

    Workers of one master follow each other; a process without a master is followed by a later
    one which names it after -sf, or reads the same files.  Another HAProxy of this host is no
    successor.  ``None``: no successor is known.
    """
    later = [
        one.started_ns
        for one in world.processes.values()
        if one.kind is not Kind.MASTER
        and one.started_ns > old.started_ns
        and same_haproxy(world, one, old)
    ]
    return min(later, default=None)


def same_haproxy(world: World, later: Process, old: Process) -> bool:
    """Whether both are workers of one master, or processes one of which replaced the other.

    A container's pids are its own: what is named there is in the same network, and in none here.
    """
    if later.kind is Kind.WORKER or master_of(world, old) is not None:
        return later.parent_pid == old.parent_pid
    if later.netns != old.netns:
        return False
    named = str(old.container_pid or old.pid) in _replaced(later.command_line)
    alike = (later.container_pid is None) == (old.container_pid is None)
    return (named and alike) or not set(later.config_files).isdisjoint(old.config_files)


def _replaced(command_line: Iterable[str]) -> set[str]:
    """The pids right after -sf and -st; other numbers (`-n 2000`) are none."""
    found: set[str] = set()
    listed = False
    for word in command_line:
        if listed and word.isdecimal():
            found.add(word)
        else:
            listed = word in REPLACES
    return found


class Handovers:
    """Since when each old worker has been told to leave: once its successor serves.

    From 3.1 on a worker reads its configuration itself: it may be there for a minute, with many
    certificates or on a busy host, before its master tells the old one.
    """

    def __init__(self) -> None:
        self._began_ns: int | None = None
        self._serves: dict[int, int] = {}

    def look(self, world: World) -> None:
        """Who answers its runtime API by now."""
        self._began_ns = self._began_ns or world.now_ns
        answers = {pid: info.at_ns for pid, info in world.infos.items() if pid in world.processes}
        self._serves = {pid: self._serves.get(pid, at_ns) for pid, at_ns in answers.items()}

    def since_ns(self, world: World, old: Process) -> int | None:
        """``None``: no successor is known; now: it does not serve yet."""
        started_ns = retired_ns(world, old)
        began_ns = self._began_ns or world.now_ns
        if started_ns is None or started_ns < began_ns - LOADING_NS or not self._serves:
            return started_ns
        later = [
            at_ns
            for pid, at_ns in self._serves.items()
            if world.processes[pid].started_ns >= started_ns
        ]
        if later and started_ns < began_ns and min(later) - began_ns < FIRST_NS:
            return started_ns  # it answers since hatrace came
        if later:
            return max(started_ns, min(later))
        return world.now_ns if world.now_ns - started_ns < LOADING_NS else started_ns


def generation(one: Process) -> str:
    """``old worker pid 812 (2 reloads ago)``; the number is its master's, where that said it."""
    if one.kind is not Kind.OLD_WORKER:
        return f"worker pid {one.pid}"
    ago = f" ({words.several(one.reloads, 'reload')} ago)" if one.reloads else ""
    return f"old worker pid {one.pid}{ago}"


def master_of(world: World, worker: Process) -> Process | None:
    parent = world.processes.get(worker.parent_pid)
    return parent if parent is not None and parent.kind is Kind.MASTER else None


def holding(world: World, flow: Flow) -> list[Process]:
    """HAProxy processes that have the socket in their fd table, as of the latest look there.

    A listener which was handed over at a reload keeps the pid of its maker as a flow.
    """
    pids = sorted({one.pid for one in world.holders(flow.inode)})
    return [world.processes[pid] for pid in pids if pid in world.processes]


def owner(world: World, flow: Flow) -> int:
    """The pid that answers for a listener: a current worker's, else any holder's."""
    holders = holding(world, flow)
    serving = [one.pid for one in holders if one.kind in CURRENT]
    return next(iter([*serving, *(one.pid for one in holders)]), flow.pid)
