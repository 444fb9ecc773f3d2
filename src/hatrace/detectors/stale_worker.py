"""stale-worker: do old workers pile up, and which flow keeps each alive?

After a reload the old worker serves the sessions it has and leaves with the last one.  It
does not leave while one session lives: a tunnel, a websocket, a leaked stream; or because it
is stopped.

Evidence: HAProxy's processes and their generations; per old worker what it still has open
(totals per server, suspects, what `show info` said); `hard-stop-after`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hatrace.detectors import steps, words
from hatrace.detectors.caveats import caveat, unreadable
from hatrace.detectors.growth import SECOND_NS, growth
from hatrace.detectors.known import Known
from hatrace.detectors.memory import Memory
from hatrace.detectors.reloads import Handovers, master_of, old_workers
from hatrace.model.address import endpoint
from hatrace.model.attribution import Role
from hatrace.model.event import Target
from hatrace.model.finding import Confidence, Evidence, Finding, Severity, Step
from hatrace.model.flow import Flow, oldest_first
from hatrace.model.topology import Process
from hatrace.model.world import World


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When an old worker is stale, and when they pile up; each with its reason."""

    settle_ns: int = 15 * SECOND_NS
    """Sessions of ordinary length, and what a storm of reloads leaves, are gone by then."""
    pile: int = 2
    """One old worker after a reload is ordinary, a second one says that they do not leave."""
    warning: int = 4
    """From so many on, each with its memory, fds and sockets, a reload too many is near."""
    alone_ns: int = 3600 * SECOND_NS
    """A single one for an hour: its sessions will not end soon, and nothing ends them."""
    late_ns: int = 5 * SECOND_NS
    """Beyond `hard-stop-after`: it should have gone, and did not."""
    sample: int = 20


THRESHOLDS = Thresholds()
OUTBOUND = (Role.SERVER, Role.PEERS)
SESSIONS = (*OUTBOUND, Role.CLIENT)


@dataclass(frozen=True, slots=True)
class Stale:
    """An old worker that stays."""

    process: Process
    since_ns: int
    """When it became an old one, or when hatrace first saw it as one."""
    preexisting: bool
    hard_stop_ms: int | None
    targets: tuple[Target, ...]
    flows: tuple[Flow, ...]


class StaleWorker:
    """The detector."""

    slug = "stale-worker"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._limits = thresholds
        self._memory = Memory()
        self._first: dict[int, int] = {}
        self._handovers = Handovers()

    def observe(self, world: World) -> Iterable[Finding]:
        self._handovers.look(world)
        old = old_workers(world)
        self._first = {one.pid: self._first.get(one.pid, world.now_ns) for one in old}
        families: dict[int, list[Stale]] = {}
        for process in old:
            stale = self._stale(world, process)
            if stale is not None:
                master = master_of(world, process)
                families.setdefault(master.pid if master is not None else 0, []).append(stale)
        findings = [
            self._finding(world, master, stale)
            for master, stale in sorted(families.items())
            if self._enough(world, stale)
        ]
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _stale(self, world: World, process: Process) -> Stale | None:
        """``None`` while its staying is still ordinary."""
        retired = self._handovers.since_ns(world, process)
        since = retired if retired is not None else self._first[process.pid]
        configured = world.configured.get(process.pid)
        hard_stop = configured.hard_stop_after_ms if configured is not None else None
        age = world.now_ns - since
        ordinary = self._limits.settle_ns
        if hard_stop is not None:
            ordinary = max(ordinary, hard_stop * 1_000_000 + self._limits.late_ns)
        if age < ordinary and not process.stopped:
            return None
        return Stale(
            process=process,
            since_ns=since,
            preexisting=since < world.info.started_ns,
            hard_stop_ms=hard_stop,
            targets=_targets(world, process.pid),
            flows=_flows(world, process.pid),
        )

    def _enough(self, world: World, stale: list[Stale]) -> bool:
        oldest = max(world.now_ns - one.since_ns for one in stale)
        beyond = any(one.hard_stop_ms is not None or one.process.stopped for one in stale)
        return len(stale) >= self._limits.pile or oldest >= self._limits.alone_ns or beyond

    def _finding(self, world: World, master: int, stale: list[Stale]) -> Finding:
        subject = f"old workers of master {master}" if master else "old processes"
        came = [one.since_ns for one in stale if not one.preexisting]
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=self._severity(stale),
            confidence=Confidence.CERTAIN,
            claim=_claim(world, stale),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=len(stale),
            preexisting=sum(one.preexisting for one in stale),
            evidence=tuple(_evidence(world, stale, self._limits.sample)),
            growth=growth(came, world.info.started_ns, world.now_ns),
            cause=_cause(stale),
            ruled_out=tuple(_ruled_out(stale)),
            next_steps=tuple(_next_steps(world, stale)),
            verify=tuple(_verify(master, stale)),
            caveat=_caveat(world, stale),
        )

    def _severity(self, stale: list[Stale]) -> Severity:
        stuck = any(one.process.stopped or one.hard_stop_ms is not None for one in stale)
        many = len(stale) >= self._limits.warning
        return Severity.WARNING if stuck or many else Severity.NOTICE


def _targets(world: World, pid: int) -> tuple[Target, ...]:
    """What it still has connections to, the most first."""
    found = [
        one
        for one in world.targets.values()
        if one.pid == pid and one.open > 0 and world.target_attribution(one).role in OUTBOUND
    ]
    return tuple(sorted(found, key=lambda one: (-one.open, one.index)))


def _flows(world: World, pid: int) -> tuple[Flow, ...]:
    """Its suspects; healthy sessions are not among them."""
    found = [
        flow
        for flow in world.open.values()
        if flow.pid == pid and flow.held and world.attribution(flow).role in SESSIONS
    ]
    return tuple(sorted(found, key=oldest_first))


# The wording -------------------------------------------------------------------------------


def _claim(world: World, stale: list[Stale]) -> str:
    names = ", ".join(_named(one) for one in stale[:5])
    spare = f" and {len(stale) - 5} more" if len(stale) > 5 else ""
    kept = sum(target.open for one in stale for target in one.targets)
    return words.sentence(
        [
            f"{words.several(len(stale), 'old worker')} of past reloads"
            f" {'is' if len(stale) == 1 else 'are'} still there: {names}{spare}",
            f"{words.several(kept, 'connection')} to servers keep them" if kept else "",
        ]
    )


def _named(one: Stale) -> str:
    """``pid 812 (3 reloads ago)``."""
    reloads = one.process.reloads
    ago = words.several(reloads, "reload") + " ago" if reloads else ""
    note = words.sentence([ago, "stopped" if one.process.stopped else ""], ", ")
    return f"pid {one.process.pid} ({note})" if note else f"pid {one.process.pid}"


def _kept_by(world: World, one: Stale) -> str:
    """What keeps it alive, as far as it is seen."""
    parts = [
        f"{words.several(target.open, 'connection')} to"
        f" {world.target_attribution(target).label or endpoint(target.address, target.port)}"
        for target in one.targets[:3]
    ]
    info = world.infos.get(one.process.pid)
    if info is not None and info.values.get("CurrConns", "").isdecimal():
        parts.append(f"show info counts {info.values['CurrConns']} connections")
    told = world.streams.get(one.process.pid)
    aged = [each for each in (told.streams if told else ()) if each.age_ms is not None]
    if oldest := max(aged, key=lambda each: each.age_ms or 0, default=None):
        age = words.span((oldest.age_ms or 0) / 1000)
        parts.append(f"the oldest session is that of client {oldest.source}, {age}")
    return words.sentence(parts, ", ")


def _evidence(world: World, stale: list[Stale], sample: int) -> Iterable[Evidence]:
    for one in stale[:sample]:
        yield Evidence(
            what="process",
            pid=one.process.pid,
            comm=one.process.comm,
            state="stopped" if one.process.stopped else "",
            condition="old worker",
            age_s=round((world.now_ns - one.process.started_ns) / 1e9, 3),
            since_s=round((world.now_ns - one.since_ns) / 1e9, 3),
            preexisting=one.preexisting,
            note=_kept_by(world, one) or "no connection to a server is seen",
        )
    flows = [flow for one in stale for flow in one.flows]
    for flow in flows[: max(sample - len(stale), 0)]:
        held = [one.fd for one in world.holders(flow.inode) if one.pid == flow.pid]
        said = world.attribution(flow)
        yield Evidence.of(
            flow, world.now_ns, min(held, default=None), f"{said.role.value} {said.label}".strip()
        )


def _cause(stale: list[Stale]) -> str:
    stopped = [one.process.pid for one in stale if one.process.stopped]
    if stopped:
        return f"pid {', '.join(map(str, stopped))}: stopped by a signal, it cannot leave"
    if any(one.hard_stop_ms is not None for one in stale):
        return "`hard-stop-after` is past and they are still there: they are stuck"
    return (
        "their sessions do not end, and without `hard-stop-after` an old worker waits for the"
        " last one for ever"
    )


def _ruled_out(stale: list[Stale]) -> Iterable[str]:
    if not any(one.process.stopped for one in stale):
        yield "stopped processes: none of them is in state T"
    if all(one.hard_stop_ms is None for one in stale):
        yield "`hard-stop-after`: their configuration, as far as it was read, has none"


def _next_steps(world: World, stale: list[Stale]) -> Iterable[Step]:
    oldest = stale[0].process
    if oldest.stopped:
        yield Step("let it run again, so that it can leave", f"kill -CONT {oldest.pid}")
    yield Step("see what the oldest still carries", steps.ask(world, oldest.pid, "show sess"))
    yield Step("or in the kernel", steps.inside(oldest, f"ss -tanpo | grep pid={oldest.pid},"))
    yield Step("end the oldest when its sessions may be cut", f"kill -TERM {oldest.pid}")
    yield Step("for the next reload: `hard-stop-after 1h` in the global section, then reload")


def _verify(master: int, stale: list[Stale]) -> Iterable[Step]:
    pids = ",".join(str(one.process.pid) for one in stale[: steps.SAMPLE])
    yield Step("they are gone", f"ps -o pid,stat,etime,args -p {pids}")
    if master:
        yield Step("one worker is left", f"pgrep -P {master} -l")


def _caveat(world: World, stale: list[Stale]) -> str:
    unseen = [one.process.pid for one in stale if not one.targets and not one.flows]
    return caveat(
        world,
        f"what keeps pid {', '.join(map(str, unseen[:5]))} is not seen: sessions older than"
        " hatrace, or its clients'"
        if unseen
        else "",
        unreadable(world, "runtime-api"),
    )
