"""Halves: the two sockets of one session, client's and server's, brought together.

HAProxy's `show sess` names both fds of a stream; where it was not asked, the two are found
by what they share: the server's connect follows the client's arrival at once, what came in
at one side went out at the other, and they end together.  A health check has no client.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hatrace.detectors.matching import Matcher, wrong_ns
from hatrace.model.attribution import Attribution, Role
from hatrace.model.finding import Confidence
from hatrace.model.flow import Flow, State, oldest_first
from hatrace.model.topology import Kind
from hatrace.model.world import World

NEAR_NS = 1_000_000_000
"""A server is connected within this after its client came, unless it queued or had to retry."""
CANDIDATES = 64
"""Clients that came before a server's connect and are looked at, the latest first."""
CHECKS = (Role.CHECK, Role.AGENT)


@dataclass(frozen=True, slots=True)
class Unit:
    """One session as far as its sockets are known; at least one half is there."""

    pid: int
    front: Flow | None
    back: Flow | None
    named: bool = False
    """`show sess` has both in one line; else that they belong together is a guess."""

    @property
    def flows(self) -> tuple[Flow, ...]:
        return tuple(half for half in (self.front, self.back) if half is not None)

    @property
    def ends_together(self) -> bool:
        """Whether both halves began to end within a second, as those of one session mostly do;
        of halves older than hatrace it is not known, and taken for granted."""
        if self.front is None or self.back is None:
            return False
        if self.front.preexisting or self.back.preexisting:
            return True
        return _end_together(self.front, self.back)


@dataclass(frozen=True, slots=True)
class Sides:
    """The suspects that HAProxy processes hold, told apart."""

    sessions: tuple[Unit, ...]
    checks: tuple[Flow, ...]


class Shared:
    """The sides of one look, worked out once for the detectors that share this."""

    def __init__(self) -> None:
        self._at: tuple[int, int] | None = None
        self._sides = Sides((), ())

    def of(self, world: World, matcher: Matcher) -> Sides:
        """As `split`; the same again within one tick of one world."""
        at = (id(world), world.now_ns)
        if at != self._at:
            self._at, self._sides = at, split(world, matcher)
        return self._sides


def gone(flow: Flow) -> bool:
    """Whether the peer has left: it sent FIN or a reset, or both sides are through."""
    return flow.state in (State.CLOSE, State.CLOSE_WAIT, State.LAST_ACK)


def split(world: World, matcher: Matcher) -> Sides:
    """Sessions and checks among the suspects.

    A flow taken for a check only because of its address, and which has a client's half, is
    a session's.
    """
    fronts: dict[int, list[Flow]] = {}
    backs: dict[int, list[Flow]] = {}
    checks: list[Flow] = []
    for flow in _held(world):
        said = world.attribution(flow)
        if said.role is Role.CLIENT:
            fronts.setdefault(flow.pid, []).append(flow)
        elif said.role is Role.SERVER or _doubtful(world, flow, said):
            backs.setdefault(flow.pid, []).append(flow)
        elif said.role in CHECKS:
            checks.append(flow)
    sessions: list[Unit] = []
    for pid in sorted(fronts.keys() | backs.keys()):
        for unit in _paired(pid, fronts.get(pid, []), backs.get(pid, []), world, matcher):
            back = unit.back
            alone = unit.front is None and back is not None
            if alone and back is not None and world.attribution(back).role in CHECKS:
                checks.append(back)
            else:
                sessions.append(unit)
    return Sides(tuple(sessions), tuple(sorted(checks, key=oldest_first)))


def _held(world: World) -> Iterator[Flow]:
    """Suspects whose fd is held by a HAProxy process that serves traffic, oldest first."""
    for flow in sorted(world.open.values(), key=oldest_first):
        process = world.processes.get(flow.pid)
        serves = process is not None and process.kind is not Kind.MASTER
        if serves and flow.held and flow.state != State.LISTEN:
            yield flow


def _doubtful(world: World, flow: Flow, said: Attribution) -> bool:
    """Whether it is called a check, but goes where sessions go as well."""
    if said.role not in CHECKS or said.confidence is Confidence.CERTAIN:
        return False
    known = world.servers.get(flow.pid, ())
    return any(one.address == flow.raddr and one.port in (flow.rport, 0) for one in known)


def _paired(
    pid: int, fronts: Sequence[Flow], backs: Sequence[Flow], world: World, matcher: Matcher
) -> Iterator[Unit]:
    """Each flow once, with its other half where that is found.

    What `show sess` names has the half that it names there, or none.
    """
    partner = _by_stream(fronts, backs, matcher)
    named = set(partner)
    unnamed_fronts = [one for one in fronts if matcher.match(one).stream is None]
    unnamed_backs = [one for one in backs if matcher.match(one).stream is None]
    _by_time(unnamed_fronts, unnamed_backs, partner, world)
    _by_order(unnamed_fronts, unnamed_backs, partner, world)
    taken = {flow.key for flow in partner.values()}
    for back in backs:
        yield Unit(pid, partner.get(back.key), back, back.key in named)
    for front in fronts:
        if front.key not in taken:
            yield Unit(pid, front, None)


Partners = dict[tuple[int, int], Flow]
"""A back's key → its front."""


def _by_stream(fronts: Sequence[Flow], backs: Sequence[Flow], matcher: Matcher) -> Partners:
    """Where `show sess` names both fds in one line."""
    by_pointer = {
        match.stream.pointer: front
        for front in fronts
        if (match := matcher.match(front)).stream is not None and match.stream.front_fd in match.fds
    }
    found: Partners = {}
    for back in backs:
        stream = matcher.match(back).stream
        if stream is not None and stream.pointer in by_pointer:
            found[back.key] = by_pointer[stream.pointer]
    return found


def _by_time(
    fronts: Sequence[Flow], backs: Sequence[Flow], partner: Partners, world: World
) -> None:
    """Where both births were seen: same bytes first, then the latest arrival before it."""
    taken = {front.key for front in partner.values()}
    births = sorted((one for one in fronts if not one.preexisting), key=_arrival)
    times = [_arrival(one) for one in births]
    for back in backs:
        if back.preexisting or not back.connect_ns or back.key in partner:
            continue
        last = bisect_right(times, back.connect_ns)
        near = [
            front
            for front in births[max(0, last - CANDIDATES) : last]
            if front.key not in taken and back.connect_ns - _arrival(front) <= NEAR_NS
        ]
        front = _best(near, back, doubtful=world.attribution(back).role in CHECKS)
        if front is not None:
            partner[back.key] = front
            taken.add(front.key)


def _best(near: Sequence[Flow], back: Flow, doubtful: bool) -> Flow | None:
    same = [front for front in near if _same_bytes(front, back)]
    if same:
        return same[-1]
    if doubtful:
        near = [one for one in near if gone(one) and gone(back) and _end_together(one, back)]
    return near[-1] if near else None


def _arrival(flow: Flow) -> int:
    return flow.established_ns or flow.born_ns


def _same_bytes(front: Flow, back: Flow) -> bool:
    """Whether what the client sent went to the server, unchanged in length."""
    return front.received_bytes == back.sent_bytes > 0


def _end_together(front: Flow, back: Flow) -> bool:
    return abs(wrong_ns(front) - wrong_ns(back)) <= NEAR_NS


def _by_order(
    fronts: Sequence[Flow], backs: Sequence[Flow], partner: Partners, world: World
) -> None:
    """What is left of those older than hatrace: dead ends in the order they were opened.

    Who belongs to whom is a guess then; that there are as many of both is the fact.
    """
    taken = {front.key for front in partner.values()}
    old_fronts = [one for one in fronts if one.preexisting and gone(one) and one.key not in taken]
    old_backs = [
        one
        for one in backs
        if one.preexisting
        and gone(one)
        and one.key not in partner
        and world.attribution(one).role not in CHECKS
    ]
    by_inode = (sorted(side, key=lambda one: one.inode) for side in (old_fronts, old_backs))
    for front, back in zip(*by_inode, strict=False):
        partner[back.key] = front
