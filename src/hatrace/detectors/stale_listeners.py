"""HAProxy's listeners that a process holds which should have left them, and why it has not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from hatrace.detectors.listeners import command_socket
from hatrace.detectors.reloads import CURRENT, current_workers, holding
from hatrace.model.address import is_unspecified
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Kind, Process
from hatrace.model.world import World


class Cause(Enum):
    """Who listens that should not."""

    OLD = "an old worker still listens"
    GENERATION = "an older process listens beside a newer one: it was started without -sf"
    MASTER = "the master alone holds it, as after a reload that failed"


@dataclass(frozen=True, slots=True)
class Stale:
    """A listener, who holds it wrongly, and whether today's configuration has its port."""

    listener: Flow
    holder: Process
    cause: Cause
    wanted: bool
    inherited: bool
    """The same socket is held by a current worker too (handed over through -x)."""


def stale_listeners(world: World) -> Iterable[Stale]:
    """Listeners of HAProxy that are held by somebody who should not."""
    listeners = [one for one in world.open.values() if one.state == State.LISTEN and one.held]
    listeners.sort(key=lambda one: (one.lport, one.laddr, one.inode, one.id))
    succeeded = _succeeded(world, listeners)
    for one in listeners:
        holders = holding(world, one)
        current = [process for process in holders if process.kind in CURRENT]
        for process in holders:
            cause = _why(world, process, one, holders, succeeded)
            if cause is not None:
                inherited = any(other.pid != process.pid for other in current)
                yield Stale(one, process, cause, _wanted(world, one, process), inherited)


def _why(
    world: World,
    process: Process,
    one: Flow,
    holders: Sequence[Process],
    succeeded: Collection[int],
) -> Cause | None:
    if process.kind is Kind.OLD_WORKER:
        return Cause.OLD
    if process.kind is Kind.MASTER:
        alone = len(holders) == 1 and command_socket(world, one) is None
        return Cause.MASTER if alone and current_workers(world) else None
    if process.pid in succeeded:
        return Cause.GENERATION
    return None


def _succeeded(world: World, listeners: Iterable[Flow]) -> set[int]:
    """Processes without a master of whose addresses a later one of the same files has one; those
    of another network (a container's) are others."""
    at: dict[tuple[int, bytes, int], list[Process]] = {}
    for one in listeners:
        found = at.setdefault((one.netns, one.laddr, one.lport), [])
        found += [each for each in holding(world, one) if each.kind is Kind.STANDALONE]
    return {
        older.pid
        for found in at.values()
        for older in found
        for later in found
        if later.started_ns > older.started_ns and set(later.config_files) & set(older.config_files)
    }


def _wanted(world: World, one: Flow, holder: Process) -> bool:
    """Whether the current configuration binds there, in the network of who holds it."""
    return any(
        bind.port == one.lport
        and (bind.address == one.laddr or is_unspecified(bind.address) or is_unspecified(one.laddr))
        for worker in current_workers(world)
        if worker.netns == holder.netns
        if (configured := world.configured.get(worker.pid)) is not None
        for bind in configured.binds
    )
