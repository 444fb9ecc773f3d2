"""not-accepting: does a listener's process stop accepting, so that its queue only grows?

The kernel finishes handshakes and queues the connections; the process takes them by
accept().  A queue that holds and never shrinks has no one who takes from it: the process is
stuck, stopped or out of fds, or its acceptors have ended one by one.  When it is full, SYNs
are dropped: clients and checks time out.  A queue that is as long as before may be another's:
of a process that accepts, but less than comes (`rate-limit sessions`, a busy application),
more connections came than wait longer in it.

Evidence: queue and backlog of the listeners in scope (`sk_ack_backlog`), seen again and again;
how many connections came meanwhile; the listen overflows of the host; the checks of HAProxy
that go there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from hatrace.detectors import forecast, steps, words
from hatrace.detectors.caveats import caveat
from hatrace.detectors.growth import SECOND_NS
from hatrace.detectors.known import Known, named
from hatrace.detectors.listeners import at_its_limit, came, checks_of, gave_no_answer, slots_taken
from hatrace.detectors.memory import Memory
from hatrace.detectors.quotes import quotes
from hatrace.detectors.reloads import owner
from hatrace.detectors.slots import limit_of, name_of
from hatrace.model.address import endpoint
from hatrace.model.finding import Confidence, Evidence, Finding, Growth, Severity, Step
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Server
from hatrace.model.world import Key, World


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How long a queue must stand; each with its reason."""

    stands_ns: int = 10 * SECOND_NS
    """A busy process drains its queue many times a second; a pause of garbage collection, of a
    slow disk or of a single thread with a long request is over by then."""
    known_ns: int = 5 * SECOND_NS
    """The same where HAProxy's own check of it has timed out, or the process is stopped."""
    pauses: int = 2
    """So many times the longest pause that it was seen to make."""
    looks: int = 4
    """At least so many looks, none of which saw it shorter than the one before."""
    full_ns: int = 2 * SECOND_NS
    """Full, SYNs are dropped already: there is less time to wait."""
    full_known_ns: int = SECOND_NS * 9 // 10
    """The same where HAProxy's check has timed out, which took longer, or the process is stopped:
    at the third of the first looks, half a second apart."""
    first_ns: int = 2 * SECOND_NS
    """What stood so early was there before hatrace."""
    waits_ns: int = 60 * SECOND_NS
    """A queue that is worked off in this time is a busy process's; most clients give up then."""
    unsure: float = 0.1
    """Of the growth: connections that come between the counts of both are no accepted ones."""


THRESHOLDS = Thresholds()


@dataclass(slots=True)
class Standing:
    """A queue that did not shrink since ``since_ns``."""

    since_ns: int
    first: int
    last: int
    looks: int
    full_ns: int | None
    came: int | None
    """Connections at its port until then; None: others listen there, too."""


class NotAccepting:
    """The detector."""

    slug = "not-accepting"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._known = known
        self._limits = thresholds
        self._memory = Memory()
        self._standing: dict[Key, Standing] = {}
        self._taken_from: set[Key] = set()
        """Queues from which connections were taken since the look before."""
        self._surplus: set[Key] = set()
        """Queues that seem to be worked off: for one look an end may be counted twice."""
        self._named: set[Key] = set()
        self._pauses: dict[Key, int] = {}
        """The longest time that each queue stood before one was taken from it."""

    def observe(self, world: World) -> Iterable[Finding]:
        listeners = [
            one._replace(pid=owner(world, one))
            for one in world.open.values()
            if one.state == State.LISTEN and one.held
        ]
        self._taken_from = self._shrunk(world, listeners)
        self._learn(world, {one.key for one in listeners})
        listeners.sort(key=lambda one: (one.lport, one.pid, one.inode, one.id))
        self._standing = {one.key: self._look(world, one) for one in listeners if one.unread_bytes}
        standing = [
            one
            for one in listeners
            if one.unread_bytes and self._stands(world, one, self._standing[one.key])
        ]
        self._named = {one.key for one in standing}
        findings = [self._finding(world, one, self._standing[one.key]) for one in standing]
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _look(self, world: World, one: Flow) -> Standing:
        queue, full = one.unread_bytes, _is_full(one)
        past = self._standing.get(one.key)
        if past is None or one.key in self._taken_from:
            full_ns = world.now_ns if full else None
            return Standing(world.now_ns, queue, queue, 1, full_ns, came(world, one))
        past.last, past.looks = queue, past.looks + 1
        past.full_ns = (past.full_ns or world.now_ns) if full else None
        return past

    def _shrunk(self, world: World, listeners: Iterable[Flow]) -> set[Key]:
        """Queues that became shorter, or to which at two looks in a row more had come than they
        grew by."""
        known = [(one, self._standing[one.key]) for one in listeners if one.key in self._standing]
        before = self._surplus
        self._surplus = {one.key for one, past in known if self._works_off(world, one, past)}
        shorter = {one.key for one, past in known if one.unread_bytes < past.last}
        return shorter | (self._surplus & before)

    def _works_off(self, world: World, one: Flow, past: Standing) -> bool:
        """Whether so many were accepted that all which wait will be within a minute."""
        now = came(world, one)
        if past.came is None or now is None:
            return False
        grown = one.unread_bytes - past.first
        taken = now - past.came - grown
        if taken <= self._limits.unsure * max(grown, 0):
            return False
        return one.unread_bytes * (world.now_ns - past.since_ns) <= taken * self._limits.waits_ns

    def _learn(self, world: World, listeners: Set[Key]) -> None:
        """How long each queue stood from which one was taken; gone listeners are forgotten."""
        for key in self._taken_from:
            pause_ns = world.now_ns - self._standing[key].since_ns
            self._pauses[key] = max(pause_ns, self._pauses.get(key, 0))
        self._pauses = {key: pause for key, pause in self._pauses.items() if key in listeners}

    def _stands(self, world: World, listener: Flow, one: Standing) -> bool:
        unsure = listener.key in self._surplus and listener.key not in self._named
        if unsure or at_its_limit(world, listener):
            return False
        pause_ns = self._limits.pauses * self._pauses.get(listener.key, 0)
        full_ns = world.now_ns - one.full_ns if one.full_ns is not None else 0
        known = gave_no_answer(world, listener)
        least_ns = self._limits.known_ns if known else self._limits.stands_ns
        stood = world.now_ns - one.since_ns >= max(least_ns, pause_ns)
        least_full_ns = self._limits.full_known_ns if known else self._limits.full_ns
        full = full_ns >= max(least_full_ns, pause_ns)
        return full or (stood and one.looks >= self._limits.looks)

    def _finding(self, world: World, one: Flow, standing: Standing) -> Finding:
        rate = _growth(world, standing)
        ahead = forecast.forecast(
            f"accept queue of {one.local}", one.unread_bytes, one.unsent_bytes + 1, rate
        )
        checks = checks_of(world, one)
        process = world.processes.get(one.pid)
        subject = self._memory.subject(one.local, one.pid)
        early = standing.since_ns <= world.info.started_ns + self._limits.first_ns
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=Severity.CRITICAL if _is_full(one) else Severity.WARNING,
            confidence=Confidence.CERTAIN
            if standing.last > standing.first or _is_full(one)
            else Confidence.LIKELY,
            claim=_claim(world, one, standing),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=one.unread_bytes,
            preexisting=standing.first if early else 0,
            evidence=(
                *_evidence(world, one, checks),
                *(quotes(world, [server.label for server in checks]) if checks else ()),
            ),
            growth=rate,
            forecast=ahead,
            cause=_cause(world, one),
            ruled_out=(
                "a burst: the queue has not become shorter in"
                f" {words.several(standing.looks, 'look')}",
            ),
            known_bug=named(world, process, self._known, self.slug, _signature(world, one)),
            next_steps=tuple(_next_steps(world, one)),
            verify=(
                Step("Recv-Q of the listener falls", steps.sockets_listening(process, one.lport)),
            ),
            caveat=caveat(world, "queues of processes out of scope are not seen"),
        )


def _is_full(one: Flow) -> bool:
    """The kernel queues one more than the backlog says (sk_acceptq_is_full)."""
    return one.unread_bytes > one.unsent_bytes


def _growth(world: World, standing: Standing) -> Growth | None:
    interval_ns = world.now_ns - standing.since_ns
    if interval_ns < SECOND_NS:
        return None
    added = standing.last - standing.first
    return Growth(round(added * 60 * SECOND_NS / interval_ns, 2), round(interval_ns / 1e9, 1))


def _owner(world: World, one: Flow) -> str:
    return f"pid {one.pid} ({world.comm(one.pid) or one.comm or 'unknown'})"


def _claim(world: World, one: Flow, standing: Standing) -> str:
    full = "; it is full, new connections are dropped" if _is_full(one) else ""
    return (
        f"{_owner(world, one)} does not accept at {one.local}:"
        f" {words.several(one.unread_bytes, 'connection')} wait in its queue of"
        f" {words.number(one.unsent_bytes)}{full}"
    )


def _cause(world: World, one: Flow) -> str:
    process = world.processes.get(one.pid)
    if process is not None and process.stopped:
        return f"pid {one.pid} is stopped by a signal or a debugger"
    socket = slots_taken(world, one)
    if socket is not None:
        timeout = "without a timeout" if socket.master else "each up to `stats timeout`"
        return (
            f"all {limit_of(socket)} slots of the {name_of(socket)} are taken, {timeout}: its"
            " clients hold their connections, and the next ones wait"
        )
    return (
        "nobody takes connections from the queue: the process is stuck or busy with something"
        " else, its acceptors have ended, or it has no fd left"
    )


def _evidence(world: World, one: Flow, checks: Sequence[Server]) -> Iterable[Evidence]:
    held = [holder.fd for holder in world.holders(one.inode) if holder.pid == one.pid]
    yield Evidence(
        what="listener",
        pid=one.pid or None,
        comm=world.comm(one.pid) or one.comm,
        fd=min(held, default=None),
        inode=one.inode or None,
        local=one.local,
        state="LISTEN",
        condition=f"{one.unread_bytes} waiting of {one.unsent_bytes}",
        preexisting=one.preexisting,
    )
    host, start = world.host, world.host_at_start
    if host is not None and start is not None and host.listen_overflows is not None:
        grown = host.listen_overflows - (start.listen_overflows or 0)
        if grown:
            yield Evidence(what="log", note=f"listen overflows of the host: {grown} more")
    for server in checks[:5]:
        where = endpoint(server.check_address, server.check_port) if server.check_address else ""
        yield Evidence(
            what="check",
            remote=where,
            state=server.check_status or "",
            condition=server.status or "",
            note=f"HAProxy's check of {server.label}",
        )


def _signature(world: World, one: Flow) -> frozenset[str]:
    """What was measured, for the comparison with known bugs of HAProxy's own listeners; nothing
    where its clients are the cause."""
    if slots_taken(world, one) is not None:
        return frozenset()
    process, info = world.processes.get(one.pid), world.infos.get(one.pid)
    marks = set()
    if process is not None and not process.stopped:
        marks.add("haproxy listener")
    used, limit = (info.values.get(name, "") if info else "" for name in ("CurrConns", "Maxconn"))
    if used.isdecimal() and limit.isdecimal() and int(used) < int(limit):
        marks.add("room left")
    return frozenset(marks)


def _next_steps(world: World, one: Flow) -> Iterable[Step]:
    process = world.processes.get(one.pid)
    yield Step("see the queue", steps.sockets_listening(process, one.lport))
    yield Step(
        "see its state and its fd limit",
        f"grep -E 'State|Threads' /proc/{one.pid}/status;"
        f" grep 'open files' /proc/{one.pid}/limits; ls /proc/{one.pid}/fd | wc -l",
    )
    if process is not None and process.stopped:
        yield Step("let it run again", f"kill -CONT {one.pid}")
    elif slots_taken(world, one) is not None:
        yield Step("see who holds them", steps.sockets_at(process, one.lport))
        yield Step("end those clients: the slots are free when they close")
    else:
        yield Step("see what it does", f"timeout 5 strace -f -p {one.pid} -e trace=accept,accept4")
