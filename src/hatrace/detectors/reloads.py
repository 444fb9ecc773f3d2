"""Generations: which worker took over from which, and since when a worker is an old one."""

from __future__ import annotations

from hatrace.detectors import words
from hatrace.model.flow import Flow
from hatrace.model.topology import Kind, Process
from hatrace.model.world import World

CURRENT = (Kind.WORKER, Kind.STANDALONE)


def old_workers(world: World) -> list[Process]:
    """Those that a reload left behind, the oldest first."""
    old = [one for one in world.processes.values() if one.kind is Kind.OLD_WORKER]
    return sorted(old, key=lambda one: (one.started_ns, one.pid))


def current_workers(world: World) -> list[Process]:
    """Those that today's configuration runs in."""
    found = [one for one in world.processes.values() if one.kind in CURRENT]
    return sorted(found, key=lambda one: (one.started_ns, one.pid))


def retired_ns(world: World, old: Process) -> int | None:
    """When its successor started: since then it is an old worker.

    Workers of one master follow each other; a process without a master is followed by any
    later one.  ``None``: no successor is known.
    """
    later = [
        one.started_ns
        for one in world.processes.values()
        if one.kind is not Kind.MASTER
        and one.started_ns > old.started_ns
        and (one.parent_pid == old.parent_pid or Kind.STANDALONE in (one.kind, old.kind))
    ]
    return min(later, default=None)


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
