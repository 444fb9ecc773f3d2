"""master-socket: are the slots of a command-line socket running out, and who holds them?

A master socket serves ten connections, for ever and without a timeout; the eleventh client
waits in the accept queue, and when that is full connect() fails ("resource temporarily
unavailable").  Stats sockets of workers have the same slots with a limit and timeout that
can be configured.

Evidence: unix_diag's accepted ends and their peers, who holds each, the accept queue; and
whether the workers behind a master run and answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from hatrace.detectors import forecast, slot_words
from hatrace.detectors.growth import SECOND_NS, growth
from hatrace.detectors.known import Known, named
from hatrace.detectors.memory import Memory
from hatrace.detectors.slot_words import Cause
from hatrace.detectors.slots import Service, Slot, SlotBook, is_hatrace
from hatrace.model.event import CommandSockets
from hatrace.model.finding import Confidence, Evidence, Finding, Growth, Severity
from hatrace.model.topology import Kind, Process
from hatrace.model.world import World


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a connection counts, and how many are too many; each with its reason."""

    held_ns: int = 3 * SECOND_NS
    """A command is answered within milliseconds, a slow one within a second."""
    settled_ns: int = SECOND_NS * 9 // 10
    """The same connections in two samples a second apart: no burst of short commands; those
    which were there before hatrace are older still."""
    full_share: float = 0.7
    """Seven of ten: three are left for the tools that every reload and alarm starts."""
    queue_ns: int = 2 * SECOND_NS
    """An accept queue is empty within microseconds, unless nobody accepts."""
    left_ns: int = 10 * SECOND_NS
    """HAProxy lets go of a client that left at once, or when its slow command is done."""
    left_warning: int = 3
    """Three such slots are no single slow command, and nothing frees them but a restart."""
    growing: int = 4
    """From so many held on, the growth is believed."""
    soon_s: float = 600.0
    """The rest of the slots gone within ten minutes: before anybody has looked."""
    sample: int = 20
    """Connections shown as evidence."""


THRESHOLDS = Thresholds()


class MasterSocket:
    """The detector."""

    slug = "master-socket"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._known = known
        self._limits = thresholds
        self._memory = Memory()
        self._book = SlotBook()
        self._queued: dict[int, int] = {}

    def observe(self, world: World) -> Iterable[Finding]:
        sample = world.command_sockets
        if sample is None:
            return []
        services = self._book.read(world, sample)
        self._note_queues(services, sample.at_ns)
        findings = [
            finding
            for service in services
            if (finding := self._judge(world, service, sample)) is not None
        ]
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _note_queues(self, services: Iterable[Service], at_ns: int) -> None:
        """Since when each accept queue has not been seen empty."""
        queued = {one.socket.inode or 0 for one in services if one.queue}
        self._queued = {inode: self._queued.get(inode, at_ns) for inode in sorted(queued)}

    def _judge(self, world: World, service: Service, sample: CommandSockets) -> Finding | None:
        held = [
            slot
            for slot in service.slots
            if sample.at_ns - slot.first_ns
            >= (self._limits.settled_ns if slot.preexisting else self._limits.held_ns)
            and not is_hatrace(world, slot)
        ]
        rate = growth(
            [slot.first_ns for slot in held if not slot.preexisting],
            world.info.started_ns,
            world.now_ns,
        )
        ahead = forecast.forecast(
            f"slots of the {service.name}", len(service.slots), service.limit, rate
        )
        process = world.processes.get(service.socket.pid)
        stopped = process is not None and process.stopped
        severity = self._severity(service, held, rate, ahead.seconds_left, sample.at_ns, stopped)
        if severity is None:
            return None
        shown = held or list(service.slots)
        cause = _cause(world, service, shown, sample.at_ns)
        subject = self._memory.subject(service.name, service.socket.pid)
        marks = slot_words.signature(service, cause)
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=severity,
            confidence=_confidence(service, shown, cause),
            claim=slot_words.claim(service),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=len(service.slots),
            preexisting=sum(slot.preexisting for slot in service.slots),
            evidence=tuple(_evidence(service, sample, self._limits.sample)),
            growth=rate,
            forecast=ahead,
            cause=slot_words.cause(world, service, shown, cause),
            ruled_out=tuple(slot_words.ruled_out(world, service, shown, cause)),
            known_bug=named(world, process, self._known, self.slug, marks),
            next_steps=tuple(slot_words.next_steps(world, service, shown, cause)),
            verify=tuple(slot_words.verify(service)),
            caveat=slot_words.caveats(world, service, shown),
        )

    def _severity(
        self,
        service: Service,
        held: list[Slot],
        rate: Growth | None,
        seconds_left: float | None,
        at_ns: int,
        stopped: bool,
    ) -> Severity | None:
        """``None``: nothing to say, as of the command under way when a process was stopped."""
        if self._is_full(service, at_ns):
            return Severity.CRITICAL
        left = [slot for slot in held if slot.left]
        soon = seconds_left is not None and seconds_left <= self._limits.soon_s
        grows = rate is not None and rate.per_minute > 0
        if (
            len(held) >= math.ceil(self._limits.full_share * service.limit)
            or (len(held) >= self._limits.growing and grows and soon)
            or len(left) >= self._limits.left_warning
        ):
            return Severity.WARNING
        kept = any(at_ns - slot.first_ns >= self._limits.left_ns for slot in left)
        return Severity.NOTICE if kept and not stopped else None

    def _is_full(self, service: Service, at_ns: int) -> bool:
        """Whether the next client is not served: no slot free, or nobody accepts."""
        settled = [
            slot for slot in service.slots if at_ns - slot.first_ns >= self._limits.settled_ns
        ]
        queued_ns = self._queued.get(service.socket.inode or 0)
        waits = queued_ns is not None and at_ns - queued_ns >= self._limits.queue_ns
        return len(settled) >= service.limit or waits


def _cause(world: World, service: Service, slots: list[Slot], at_ns: int) -> Cause:
    """Which of the causes with one face it is."""
    process = world.processes.get(service.socket.pid)
    if process is not None and process.stopped:
        return Cause.STOPPED
    left = [slot for slot in slots if slot.left]
    waiting = [slot for slot in slots if not slot.left and slot.unread_bytes]
    silent = bool(service.socket.master and slot_words.silent_workers(world, service, at_ns))
    if silent and (left or len(waiting) * 2 >= len(slots)):
        return Cause.WORKER
    if service.queue and len(service.slots) < service.limit:
        return Cause.NOT_ACCEPTING
    if len(left) * 2 <= len(slots):
        return Cause.CLIENTS
    return Cause.SERVER if _answer(world, service, left) else Cause.LEFT


def _answer(world: World, service: Service, left: list[Slot]) -> bool:
    """Whether every worker concerned has answered since the oldest of these is there."""
    oldest = min(slot.first_ns for slot in left)
    if service.socket.master:
        workers = workers_of(world, service.socket.pid)
    else:
        workers = [one for one in world.processes.values() if one.pid == service.socket.pid]
    answered = [
        (info := world.infos.get(worker.pid)) is not None and info.at_ns > oldest
        for worker in workers
    ]
    return bool(answered) and all(answered)


def workers_of(world: World, master_pid: int) -> list[Process]:
    """A master's workers, current and old."""
    workers = (Kind.WORKER, Kind.OLD_WORKER)
    return [
        one
        for one in sorted(world.processes.values(), key=lambda one: one.pid)
        if one.parent_pid == master_pid and one.kind in workers
    ]


def _confidence(service: Service, slots: list[Slot], cause: Cause) -> Confidence:
    """Slots are counted facts; how sure the cause is, makes the difference."""
    if cause is Cause.LEFT:
        return Confidence.LIKELY
    if cause is Cause.CLIENTS and not any(slot.client_pid for slot in slots):
        return Confidence.LIKELY
    return Confidence.CERTAIN


def _evidence(service: Service, sample: CommandSockets, limit: int) -> Iterable[Evidence]:
    socket = service.socket
    for slot in service.slots[:limit]:
        yield Evidence(
            what="unix",
            pid=slot.client_pid or None,
            comm=slot.command,
            fd=slot.client_fd,
            inode=slot.peer_inode or slot.inode,
            local=socket.path,
            state="CONNECTED",
            condition="client left" if slot.left else "held",
            age_s=round((sample.at_ns - slot.first_ns) / 1e9, 3),
            preexisting=slot.preexisting,
            note=slot_words.slot_note(socket.pid, slot),
        )
    for one in service.waiting[: max(limit - len(service.slots), 0)]:
        yield Evidence(
            what="unix",
            pid=one.pid or None,
            comm=one.command,
            inode=one.inode or None,
            local=socket.path,
            state="QUEUED",
            condition="waiting",
            note=(
                "in the accept queue: it may send its command, and gets no answer"
                if one.inode
                else "in the accept queue, and its client has left again"
            ),
        )
