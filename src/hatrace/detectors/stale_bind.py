"""stale-bind: is a port bound by a process that should have left it, and what does that cost?

After a reload the old worker closes its listeners at once and only serves out its sessions.
One that still listens was stopped, was started anew without -sf, or never heard of the reload.
It holds a port that today's configuration may not have; and where it has it, the kernel
shares new connections out to both (SO_REUSEPORT), and the old one's are never served.

Evidence: listening sockets and all processes that hold each, HAProxy's generations, the binds
of the current configuration.  The cause without a listener is in `taken_ports`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from hatrace.detectors import steps, taken_ports, words
from hatrace.detectors.caveats import caveat
from hatrace.detectors.growth import SECOND_NS
from hatrace.detectors.known import Known, named
from hatrace.detectors.memory import Memory
from hatrace.detectors.reloads import CURRENT, Handovers, current_workers, holding
from hatrace.model.address import is_unspecified
from hatrace.model.finding import Confidence, Evidence, Finding, Severity, Step
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Kind, Process
from hatrace.model.world import World


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How long a listener may linger; each with its reason."""

    handover_ns: int = 12 * SECOND_NS
    """An old worker closes its listeners when it is told of the reload, within a second; the
    fd tables are listed every five seconds, and the last word may be that old."""
    standing_ns: int = SECOND_NS // 4
    """A listener of the master alone that was there before hatrace, and no new worker for a
    handover's time: seen twice it is none of a reload that has just begun."""
    sample: int = 20


THRESHOLDS = Thresholds()


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


class StaleBind:
    """The detector."""

    slug = "stale-bind"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._known = known
        self._limits = thresholds
        self._memory = Memory()
        self._first: dict[tuple[int, int], int] = {}
        self._began_ns: int | None = None
        self._handovers = Handovers()

    def observe(self, world: World) -> Iterable[Finding]:
        self._handovers.look(world)
        suspects = list(_stale(world))
        seen = {(one.holder.pid, one.listener.inode) for one in suspects}
        self._first = {key: self._first.get(key, world.now_ns) for key in sorted(seen)}
        by_holder: dict[int, list[Stale]] = {}
        for one in suspects:
            if self._lasts(world, one):
                by_holder.setdefault(one.holder.pid, []).append(one)
        findings = [self._finding(world, found) for _, found in sorted(by_holder.items())]
        self._began_ns = self._began_ns or world.now_ns
        findings += taken_ports.findings(world, self._memory, self.slug, self._began_ns)
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _lasts(self, world: World, one: Stale) -> bool:
        """Longer than a handover takes, by the generations or else by what we saw."""
        first = self._first[one.holder.pid, one.listener.inode]
        if one.cause is Cause.MASTER:
            newest = max((each.started_ns for each in current_workers(world)), default=0)
            settled = world.now_ns - newest >= self._limits.handover_ns
            stood = settled and one.listener.preexisting
            wanted = self._limits.standing_ns if stood else self._limits.handover_ns
            return world.now_ns - first >= wanted
        retired = self._handovers.since_ns(world, one.holder)
        since = retired if retired is not None else first
        return world.now_ns - since >= self._limits.handover_ns + _grace_ns(world, one.holder)

    def _finding(self, world: World, found: Sequence[Stale]) -> Finding:
        holder, cause = found[0].holder, found[0].cause
        subject = f"pid {holder.pid} listening"
        waiting = sum(one.listener.unread_bytes for one in found)
        shared = any(one.wanted for one in found)
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=Severity.CRITICAL
            if shared and (waiting or holder.stopped)
            else Severity.WARNING,
            confidence=Confidence.LIKELY if cause is Cause.GENERATION else Confidence.CERTAIN,
            claim=_claim(holder, cause, found),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=len(found),
            preexisting=sum(one.listener.preexisting for one in found),
            evidence=tuple(_evidence(world, found[: self._limits.sample])),
            cause=_cause(holder, found),
            ruled_out=tuple(_ruled_out(found)),
            known_bug=named(world, holder, self._known, self.slug, _signature(cause)),
            next_steps=tuple(_next_steps(world, holder, found)),
            verify=tuple(
                Step(
                    "the port is left, or held by the current worker alone",
                    steps.sockets_listening(holder, one.listener.lport),
                )
                for one in found[:3]
            ),
            caveat=_caveat(world, found),
        )


def _grace_ns(world: World, holder: Process) -> int:
    """How long it listens on, on purpose, after it was told of a reload (`grace`)."""
    configured = world.configured.get(holder.pid)
    options = configured.options if configured is not None else ()
    said = [option.split()[1] for option in options if option.startswith("grace ")]
    return max((int(ms) * 1_000_000 for ms in said), default=0)


def _stale(world: World) -> Iterable[Stale]:
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
                yield Stale(one, process, cause, _wanted(world, one), inherited)


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
        alone = len(holders) == 1 and not _is_command_socket(world, one)
        return Cause.MASTER if alone and current_workers(world) else None
    if process.pid in succeeded:
        return Cause.GENERATION
    return None


def _succeeded(world: World, listeners: Iterable[Flow]) -> set[int]:
    """Processes without a master of whose addresses a later one of the same files has one."""
    at: dict[tuple[bytes, int], list[Process]] = {}
    for one in listeners:
        found = at.setdefault((one.laddr, one.lport), [])
        found += [each for each in holding(world, one) if each.kind is Kind.STANDALONE]
    return {
        older.pid
        for found in at.values()
        for older in found
        for later in found
        if later.started_ns > older.started_ns and set(later.config_files) & set(older.config_files)
    }


def _is_command_socket(world: World, one: Flow) -> bool:
    """A TCP address of -S belongs to the master."""
    sample = world.command_sockets
    ends = (f":{one.lport}",)
    return sample is not None and any(socket.path.endswith(ends) for socket in sample.sockets)


def _wanted(world: World, one: Flow) -> bool:
    """Whether the current configuration binds there."""
    return any(
        bind.port == one.lport
        and (bind.address == one.laddr or is_unspecified(bind.address) or is_unspecified(one.laddr))
        for worker in current_workers(world)
        if (configured := world.configured.get(worker.pid)) is not None
        for bind in configured.binds
    )


# The wording -------------------------------------------------------------------------------


def _claim(holder: Process, cause: Cause, found: Sequence[Stale]) -> str:
    wanted = [one for one in found if one.wanted]
    deleted = [one for one in found if not one.wanted]
    kind = {Cause.OLD: "old worker", Cause.MASTER: "master"}.get(cause, "older process")
    state = " (stopped)" if holder.stopped else ""
    waiting = sum(one.listener.unread_bytes for one in found)
    listens = f"{kind} pid {holder.pid}{state} still listens on "
    places = [
        f"{_places(wanted)} beside the current process, and takes connections away from it"
        if wanted
        else "",
        f"{_places(deleted)}, not in today's configuration" if deleted else "",
    ]
    return words.sentence(
        [
            listens + words.sentence(places, "; and on "),
            f"{words.several(waiting, 'connection waits', 'connections wait')} there unserved"
            if waiting
            else "",
        ]
    )


def _places(found: Sequence[Stale]) -> str:
    spare = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(_where(one) for one in found[:5]) + spare


def _where(one: Stale) -> str:
    return one.listener.local


def _cause(holder: Process, found: Sequence[Stale]) -> str:
    parts = [found[0].cause.value]
    if holder.stopped:
        parts.append("it is stopped by a signal or a debugger, so it never heard of the reload")
    if any(one.inherited for one in found):
        parts.append("the current worker holds the same socket: it was handed over by -x")
    elif any(one.wanted for one in found):
        parts.append("it is a socket of its own on the same port (SO_REUSEPORT)")
    return "; ".join(parts)


def _ruled_out(found: Sequence[Stale]) -> Iterable[str]:
    yield "an ephemeral source port that looks like a bind: the sockets are in LISTEN"
    if not any(one.inherited for one in found):
        yield "a listener inherited through -x: no current worker holds the same socket"


def _signature(cause: Cause) -> frozenset[str]:
    return frozenset({"held by master"} if cause is Cause.MASTER else ())


def _evidence(world: World, found: Sequence[Stale]) -> Iterable[Evidence]:
    for one in found:
        held = [
            holder.fd
            for holder in world.holders(one.listener.inode)
            if holder.pid == one.holder.pid
        ]
        yield Evidence(
            what="listener",
            pid=one.holder.pid,
            comm=one.holder.comm,
            fd=min(held, default=None),
            inode=one.listener.inode or None,
            local=one.listener.local,
            state="LISTEN",
            condition=f"{one.listener.unread_bytes} waiting of {one.listener.unsent_bytes}",
            preexisting=one.listener.preexisting,
            note=words.sentence(
                [
                    one.cause.value,
                    "in today's configuration" if one.wanted else "not in today's configuration",
                ]
            ),
        )


def _next_steps(world: World, holder: Process, found: Sequence[Stale]) -> Iterable[Step]:
    yield Step("see all who listen there", steps.sockets_listening(holder, found[0].listener.lport))
    if holder.kind is Kind.MASTER:
        yield Step("a reload that works lets go of it", steps.reload(world, holder.pid))
        return
    if holder.stopped:
        yield Step("let it run: it hears of the reload, and closes", f"kill -CONT {holder.pid}")
    yield Step(
        "tell it to stop: it closes its listeners, and serves its sessions out",
        f"kill -USR1 {holder.pid}",
    )
    yield Step("or end it with its sessions", f"kill -TERM {holder.pid}")


def _caveat(world: World, found: Sequence[Stale]) -> str:
    known = any(worker.pid in world.configured for worker in current_workers(world))
    host, parts = world.host, []
    if not known:
        parts.append("today's configuration could not be read: its binds are not known")
    if host is not None and host.port_low is not None and host.port_high is not None:
        inside = [
            str(one.listener.lport)
            for one in found
            if host.port_low <= one.listener.lport <= host.port_high
        ]
        if inside:
            parts.append(
                f"port {', '.join(inside[:5])} lies in the ephemeral range"
                f" {host.port_low}-{host.port_high}: a connection's source port may block it too"
            )
    return caveat(world, *parts)
