"""The verdict on one session whose peer has left: leaked, and how do we know, or explained.

A client may shut its half and wait for a slow answer; a server may be done while its client
reads slowly.  HAProxy then rightly holds a half-closed socket until data or a timeout comes.
What no timeout explains: both peers are gone and nothing is left to deliver; no stream of
HAProxy knows the socket; the stream's own timeout is past; or every configured timeout is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hatrace.detectors.halves import Unit, gone
from hatrace.detectors.matching import Matcher, Word, pending, quiet_ns
from hatrace.model.finding import Confidence
from hatrace.model.flow import Flag, Flow, State
from hatrace.model.world import World

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How long nothing must have happened; each with its reason."""

    both_gone_ns: int = 2 * SECOND_NS
    """HAProxy lets go 30 µs after the second FIN (measured); 2 s leaves room for a busy host."""
    stray_ns: int = 5 * SECOND_NS
    """`show sess` leaves out handshakes and connections between two requests for a moment; and
    a stream whose timer has just fired shows as past until its thread comes to it."""
    finished_alone_ns: int = 10 * SECOND_NS
    """Both directions of one socket are over, its other half is not seen: a slow client
    there may still be served from HAProxy's buffers for a while."""
    adopted_ns: int = SECOND_NS
    """A ghost that was there when hatrace came: one more look shows that it stays."""
    asked_ns: int = 10 * SECOND_NS
    """The same where HAProxy answers: `show sess`, read every five seconds, has the word first.
    3.2 keeps a client's dead socket until the server's side has ended."""
    beyond_timeout_ns: int = 10 * SECOND_NS
    """Beside the longest timeout: HAProxy looks at expired timers late when it is busy."""
    timeout_unknown_ns: int = 900 * SECOND_NS
    """Where no timeout is known: longer than most configurations have (50 s by default)."""
    few: int = 3
    """From so many alike on, chance and scans in the middle of a close are out."""
    pile: int = 10
    """So many reset sockets held at once are no slow single client."""
    pile_ns: int = 10 * SECOND_NS


THRESHOLDS = Thresholds()


class Reason(Enum):
    """Why a session counts as leaked; in the order in which reasons are looked for."""

    BOTH_GONE = "both peers have left and nothing is left to deliver"
    NO_STREAM = "no stream in show sess knows the socket"
    PAST = "its stream's own timeout is past"
    FINISHED = "both directions of the socket are over"
    FOUND = "its connection was gone already when hatrace came"
    PILE = "many connections were reset and their fds stay"
    LATE = "nothing moved for longer than any configured timeout"
    LATE_UNKNOWN = "nothing moved for very long, and no timeout is known that would end it"


SURE = {
    Reason.BOTH_GONE: Confidence.LIKELY,
    Reason.NO_STREAM: Confidence.CERTAIN,
    Reason.PAST: Confidence.CERTAIN,
    Reason.FINISHED: Confidence.LIKELY,
    Reason.FOUND: Confidence.LIKELY,
    Reason.PILE: Confidence.LIKELY,
    Reason.LATE: Confidence.LIKELY,
    Reason.LATE_UNKNOWN: Confidence.POSSIBLE,
}
"""Of a single session; BOTH_GONE and FOUND become certain by number."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A session that leaked, why, and what `show sess` says of it."""

    unit: Unit
    reason: Reason
    word: Word


def judge(world: World, unit: Unit, matcher: Matcher, limits: Thresholds) -> Verdict | None:
    """The verdict on a session; ``None``: it is explained, or too young to tell."""
    if not any(gone(flow) for flow in unit.flows):
        return None
    quiet = min(quiet_ns(flow, world.now_ns) for flow in unit.flows)
    word = _word(unit, matcher)
    reason = _reason(world, unit, quiet, word, limits)
    return Verdict(unit, reason, word) if reason is not None else None


def _word(unit: Unit, matcher: Matcher) -> Word:
    """The word that weighs most: a living stream excuses both halves."""
    said = {matcher.match(flow).word for flow in unit.flows}
    order = (Word.ALIVE, Word.ENDLESS, Word.PAST, Word.NO_STREAM)
    return next((word for word in order if word in said), Word.UNASKED)


def _reason(world: World, unit: Unit, quiet: int, word: Word, limits: Thresholds) -> Reason | None:
    over = _both_gone(unit) and _one_session(unit, word) and not _delayed(unit, word)
    if over and quiet >= _patience(unit, limits):
        return Reason.BOTH_GONE
    if word in (Word.NO_STREAM, Word.PAST):
        if _quiet_when(world, unit, quiet, word) < limits.stray_ns:
            return None
        return Reason.NO_STREAM if word is Word.NO_STREAM else Reason.PAST
    if word is Word.ALIVE:
        return None
    if any(pending(flow) for flow in unit.flows) or (unit.named and word is Word.UNASKED):
        return _late(world, unit, quiet, limits)
    if any(_finished(flow) for flow in unit.flows) and quiet >= limits.finished_alone_ns:
        return Reason.FINISHED
    answers = unit.pid in world.infos
    found_ns = limits.asked_ns if answers else limits.adopted_ns
    if any(_found(flow) for flow in unit.flows) and quiet >= found_ns:
        return Reason.FOUND
    late = _late(world, unit, quiet, limits)
    if late is None and any(_reset(flow) for flow in unit.flows) and quiet >= limits.pile_ns:
        return Reason.PILE
    return late


def _quiet_when(world: World, unit: Unit, quiet: int, word: Word) -> int:
    """How long nothing had happened: until now, or until a timeout was said to be past."""
    if word is not Word.PAST:
        return quiet
    return quiet - (world.now_ns - world.streams[unit.pid].at_ns)


def _one_session(unit: Unit, word: Word) -> bool:
    """Whether the halves are one session's, and not one of each of two that both wait.

    Either HAProxy says so, or has a stream for neither; or one is over in both directions,
    and the other began to end with it.
    """
    if unit.named or word is Word.NO_STREAM:
        return True
    return unit.ends_together and any(flow.state == State.CLOSE for flow in unit.flows)


def _patience(unit: Unit, limits: Thresholds) -> int:
    adopted = all(flow.preexisting for flow in unit.flows)
    return limits.adopted_ns if adopted else limits.both_gone_ns


def _both_gone(unit: Unit) -> bool:
    """Whether both peers left, and no data waits that either could still take."""
    if unit.front is None or unit.back is None:
        return False
    if all(flow.state == State.CLOSE for flow in unit.flows):
        return True
    return all(gone(flow) and not pending(flow) for flow in unit.flows)


def _delayed(unit: Unit, word: Word) -> bool:
    """Whether HAProxy may keep an answer back on purpose (Lua, `http-response pause`, a filter):
    it has not said that its stream is over, and of no half are both directions, or less went to
    the client than came from the server (from 3.2 on such a stream's sockets stay till its end).
    """
    if word in (Word.NO_STREAM, Word.PAST) or unit.front is None or unit.back is None:
        return False
    states = {flow.state for flow in unit.flows}
    kept_back = unit.back.received_bytes > unit.front.sent_bytes
    return State.CLOSE not in states or (kept_back and states != {State.CLOSE})


def _finished(flow: Flow) -> bool:
    """Closed in both directions, by FIN: nothing can ever come of it."""
    ends = Flag.FIN_SENT | Flag.FIN_RECEIVED
    return flow.state == State.CLOSE and flow.flags & ends == ends


def _found(flow: Flow) -> bool:
    return flow.state == State.CLOSE and flow.preexisting


def _reset(flow: Flow) -> bool:
    return flow.state == State.CLOSE and bool(flow.flags & Flag.RST_RECEIVED)


def _late(world: World, unit: Unit, quiet: int, limits: Thresholds) -> Reason | None:
    """Whether every timeout that could be waited for is past."""
    longest = longest_timeout_ns(world, unit.pid)
    if longest is None:
        return Reason.LATE_UNKNOWN if quiet > limits.timeout_unknown_ns else None
    return Reason.LATE if quiet > longest + limits.beyond_timeout_ns else None


def longest_timeout_ns(world: World, pid: int) -> int | None:
    """The longest configured timeout that a half-closed session may wait for."""
    configured = world.configured.get(pid)
    if configured is None:
        return None
    said = configured.timeouts
    known = [
        value
        for value in (said.longest_ms, said.client_fin_ms, said.server_fin_ms)
        if value is not None
    ]
    return max(known) * 1_000_000 if known else None
