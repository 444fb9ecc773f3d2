"""Accepted sockets whose peer has gone, and how long an application may rightly keep them.

An event loop notices a reset within milliseconds.  A thread that works on a request, sleeps
between two messages of a stream, or waits for a free worker, notices when it next reads or
writes; then it closes.  So a socket which was asked something is given a minute, unless a health
check asked: whoever is done with the answer has nothing more to do.  And where dead sockets were
let go late before, those now open may take as long again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hatrace.detectors.growth import SECOND_NS
from hatrace.detectors.matching import longest_wrong_first, quiet_ns, wrong_ns
from hatrace.model.attribution import Role
from hatrace.model.flow import Condition, Flag, Flow, State
from hatrace.model.topology import Server
from hatrace.model.world import Key, World

REMEMBERED = 1024
"""Applications' ports of which it is known how long they take."""
Pile = tuple[int, int]
"""Pid and local port."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How long, how many; each with its reason."""

    ghost_ns: int = 5 * SECOND_NS
    """An event loop sees a reset within milliseconds, a blocked thread at its next read."""
    adopted_ns: int = SECOND_NS
    """What was dead when hatrace came needs one more look."""
    work_ns: int = 60 * SECOND_NS
    """Asked for something: a slow answer, or the next message of a stream (whose heartbeats
    are mostly 15 to 30 s apart), shows that the peer has gone."""
    half_closed_ns: int = 60 * SECOND_NS
    """An application may answer a half-closed client late; a minute without a byte is long."""
    poll_ns: int = 300 * SECOND_NS
    """The same where nothing was answered yet: long polls last minutes."""
    least: int = 3
    """Fewer may be requests in work whose client gave up."""
    many: int = 10
    """From so many alike on that were dead before hatrace came, checks asked, not people."""
    late: int = 2
    """So many times the longest time it took before to let go of a dead one."""
    rhythm: float = 0.25
    """A check's distance may differ by so much of its interval."""
    regular: float = 0.75
    """Share of the distances that must fit."""


THRESHOLDS = Thresholds()


class Abandoned:
    """Finds them, and learns how long this application takes to let go."""

    def __init__(self, limits: Thresholds) -> None:
        self._limits = limits
        self._dead: dict[Key, tuple[tuple[Pile, bool], int]] = {}
        """Those of the last look: since when."""
        self._late: dict[tuple[Pile, bool], int] = {}
        """Of those that were asked something, and of those that were not."""
        self._by_checks: set[Key] = set()

    def piles(self, world: World) -> dict[Pile, list[Flow]]:
        """By process and port: those kept longer than anything explains, oldest first."""
        found: dict[Pile, list[Flow]] = {}
        for flow in sorted(_dead(world), key=longest_wrong_first):
            found.setdefault((flow.pid, flow.lport), []).append(flow)
        self._learn(world, found)
        dead = [flow for flows in found.values() for flow in flows]
        self._by_checks = self._by_checks & self._dead.keys() | _of_checks(world, dead)
        return {
            pile: kept for pile, flows in found.items() if (kept := self._kept(world, pile, flows))
        }

    def _learn(self, world: World, found: dict[Pile, list[Flow]]) -> None:
        before = self._dead
        self._dead = {
            flow.key: before.get(flow.key, ((pile, flow.received_bytes > 0), wrong_ns(flow)))
            for pile, flows in found.items()
            for flow in flows
        }
        if world.losses.scan_truncated:
            return  # those which are missing may be there still
        for key in before.keys() - self._dead.keys():
            kind, since_ns = before[key]
            self._late[kind] = max(world.now_ns - since_ns, self._late.pop(kind, 0))
        while len(self._late) > REMEMBERED:
            del self._late[next(iter(self._late))]

    def _kept(self, world: World, pile: Pile, flows: Sequence[Flow]) -> list[Flow]:
        checks = self._by_checks | _many_alike(world, flows, self._limits.many)
        kept = [
            flow
            for flow in flows
            if quiet_ns(flow, world.now_ns)
            >= max(self._usual_ns(pile, flow), self._patience_ns(flow, flow.key in checks))
        ]
        return kept if len(kept) >= self._limits.least else []

    def _usual_ns(self, pile: Pile, flow: Flow) -> int:
        return self._limits.late * self._late.get((pile, flow.received_bytes > 0), 0)

    def _patience_ns(self, flow: Flow, by_check: bool) -> int:
        asked = flow.received_bytes > 0 and not (by_check and flow.sent_bytes)
        if flow.state == State.CLOSE_WAIT:
            waits = asked and not flow.sent_bytes
            return self._limits.poll_ns if waits else self._limits.half_closed_ns
        if asked:
            return self._limits.work_ns
        return self._limits.adopted_ns if flow.preexisting else self._limits.ghost_ns


def _dead(world: World) -> Iterator[Flow]:
    """Accepted sockets that an application holds and whose peer is gone."""
    for flow in world.open.values():
        if not flow.held or not flow.flags & Flag.ACCEPTED or flow.pid in world.processes:
            continue
        gone = flow.condition(world.now_ns) is Condition.GHOST or flow.state == State.CLOSE_WAIT
        if gone and world.attribution(flow).role is Role.APPLICATION:
            yield flow


def _of_checks(world: World, flows: Iterable[Flow]) -> set[Key]:
    """Those whose other ends were sockets of HAProxy's checks, of the latest that it made."""
    ends = {check.local for one in world.checks for check in one.recent}
    return {flow.key for flow in flows if flow.remote in ends}


def _many_alike(world: World, flows: Sequence[Flow], many: int) -> set[Key]:
    """Those older than hatrace, whose other ends nobody saw: where checks go, and many were
    asked and answered the same, checks asked."""
    alike: dict[tuple[int, int], list[Key]] = {}
    for flow in flows:
        if flow.preexisting and any(_checked_at(one.server, flow) for one in world.checks):
            alike.setdefault((flow.received_bytes, flow.sent_bytes), []).append(flow.key)
    return {key for keys in alike.values() if len(keys) >= many for key in keys}


def checks_of(world: World, flows: Sequence[Flow], limits: Thresholds) -> list[str]:
    """Servers whose checks go to these sockets' local end in the rhythm of their births."""
    births = sorted(flow.born_ns for flow in flows if not flow.preexisting)
    gaps_ms = [(later - earlier) / 1e6 for earlier, later in pairwise(births)]
    found = set()
    for one in world.checks:
        if len(gaps_ms) < limits.least - 1 or not one.expected_ms:
            continue
        margin_ms = limits.rhythm * one.expected_ms
        fitting = sum(abs(gap - one.expected_ms) <= margin_ms for gap in gaps_ms)
        if fitting >= limits.regular * len(gaps_ms) and _checked_at(one.server, flows[0]):
            found.add(one.server.label)
    return sorted(found)


def _checked_at(server: Server, flow: Flow) -> bool:
    return (server.check_address, server.check_port) == (flow.laddr, flow.lport)
