"""Check or session?  Told apart by what the flow did, where both go to one address and port.

A check connects in a rhythm of its own, asks the same thing each time, is over within its
timeout and mostly ends by a reset of HAProxy's side (HAPROXY.md, "How a check looks on the
wire").  A session carries what its client sent.  None of this is proof: `show fd` is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hatrace.flows.places import Place
from hatrace.flows.rhythm import intervals_ms
from hatrace.model.attribution import Attribution, Role
from hatrace.model.finding import Confidence
from hatrace.model.flow import Flag, Flow, State
from hatrace.model.topology import Server


@dataclass(frozen=True, slots=True)
class Limits:
    """What a health check does not exceed; each with its reason."""

    sent_bytes: int = 16_384
    """One buffer (`tune.bufsize`): a check's request is built in it."""
    received_bytes: int = 131_072
    """A check stops reading when its buffer is full; the rest stays in the socket's."""
    slack_ns: int = 1_000_000_000
    """Beside the timeout: `moved_ns` is a jiffy coarse, a loaded host is late."""
    tolerance: float = 0.25
    """Of an interval: `spread-checks` and the check's own duration shift the next one."""
    regular: float = 0.75
    """Share of distances that must fit: of random arrivals a fifth would."""
    distances: int = 3
    """At least so many must be known."""


LIMITS = Limits()
REMEMBERED_SIZES = 16
REMEMBERED_CONNECTS = 9


class Habit:
    """The connects to one place by the size of what they asked, to recognise a check's rhythm.

    Bounded: the latest few sizes, of each the latest few connects.
    """

    def __init__(self) -> None:
        self._connects: dict[tuple[int, bool], deque[int]] = {}

    def learn(self, flow: Flow) -> None:
        """Takes note of a flow, open or ended, once."""
        if flow.preexisting or not flow.connect_ns:
            return
        kind = _kind(flow)
        connects = self._connects.pop(kind, None) or deque(maxlen=REMEMBERED_CONNECTS)
        if flow.connect_ns not in connects:
            connects.append(flow.connect_ns)
        self._connects[kind] = connects
        while len(self._connects) > REMEMBERED_SIZES:
            del self._connects[next(iter(self._connects))]

    def interval_ms(self, flow: Flow, place: Place) -> float | None:
        """The checks' interval that flows like this one keep; None if they keep none.

        An abort with linger 0 may lose the byte counts (tcp_disconnect clears them), so
        flows without any are tried as the missing ones of a rhythm, too.
        """
        alike = self._connects.get(_kind(flow), deque[int]())
        if not alike:
            return None
        found = _interval_ms(sorted(alike), place)
        if found is None:
            blank = self._connects.get(BLANK, deque[int]())
            found = _interval_ms(sorted({*alike, *blank}), place) if blank else None
        return found


BLANK = (0, True)
"""The kind of flows that connected and show no bytes sent."""


def _interval_ms(connects_ns: Sequence[int], place: Place) -> float | None:
    """The interval which most distances have, between neighbours or, where several servers
    are checked, between every n-th."""
    checking = (*place.checks, *place.agents)
    for step in dict.fromkeys((1, len(checking))):
        distances = [b - a for a, b in zip(connects_ns, connects_ns[step:], strict=False)]
        for interval in sorted({ms for one in checking for ms in intervals_ms(one)}):
            if _regular(distances, interval * 1e6):
                return interval
    return None


def _kind(flow: Flow) -> tuple[int, bool]:
    """What makes flows alike: the size of the request, and whether they connected at all."""
    return flow.sent_bytes, bool(flow.established_ns)


def _regular(distances_ns: Sequence[int], interval_ns: float) -> bool:
    """Whether most of the distances are about this interval."""
    if len(distances_ns) < LIMITS.distances:
        return False
    margin_ns = LIMITS.tolerance * interval_ns
    fitting = sum(abs(distance - interval_ns) <= margin_ns for distance in distances_ns)
    return fitting >= LIMITS.regular * len(distances_ns)


def judge(flow: Flow, place: Place, habit: Habit | None) -> Attribution:
    """What this flow of a shared place is, by what it did; the label is the caller's."""
    excess = _more_than_a_check(flow, place)
    if excess:
        return _session(Confidence.LIKELY, excess)
    interval = habit.interval_ms(flow, place) if habit is not None else None
    if interval is not None:
        return _check(Confidence.LIKELY, f"connects like this one come every {interval:g} ms")
    if not flow.sent_bytes and not flow.received_bytes:
        return _silent(flow, place)
    return _spoke(flow, place)


def _check(confidence: Confidence, reason: str) -> Attribution:
    return Attribution(Role.CHECK, "", confidence, reason)


def _session(confidence: Confidence, reason: str) -> Attribution:
    return Attribution(Role.SERVER, "", confidence, reason)


def _more_than_a_check(flow: Flow, place: Place) -> str:
    """What this flow did that no check does; empty: nothing."""
    if flow.sent_bytes > LIMITS.sent_bytes or flow.received_bytes > LIMITS.received_bytes:
        return "it carried more than a check does"
    if flow.sent_bytes and _only_plain_tcp(place):
        return "it carried data, which a plain TCP check does not"
    start_ns = flow.connect_ns or flow.established_ns
    moved_ns = flow.moved_ns - start_ns
    if start_ns and moved_ns > longest_check_ns(place) + LIMITS.slack_ns:
        return f"data moved {moved_ns / 1e9:.1f} s after it connected, when a check is over"
    lived_ns = flow.released_ns - flow.connect_ns
    if flow.connect_ns and lived_ns > longest_check_ns(place) + LIMITS.slack_ns:
        return f"it was held for {lived_ns / 1e9:.1f} s and let go, when a check is over before"
    return ""


def _only_plain_tcp(place: Place) -> bool:
    """Whether all that is checked here is that a connection comes about."""
    kinds = [one.settings.kind for one in place.checks]
    return bool(kinds) and not place.agents and all(kind == "tcp" for kind in kinds)


def longest_check_ns(place: Place) -> int:
    """The time after which the slowest check of this place is given up."""
    return max(map(_check_limit_ms, (*place.checks, *place.agents)), default=0) * 1_000_000


def _check_limit_ms(server: Server) -> int:
    """`timeout connect` and `timeout check`, or for want of them an interval."""
    settings = server.settings
    read_ms = settings.timeout_check_ms or max(intervals_ms(server))
    return read_ms + (settings.timeout_connect_ms or 0)


def _silent(flow: Flow, place: Place) -> Attribution:
    """A flow which carried nothing either way."""
    if flow.state == State.SYN_SENT or not (flow.established_ns or flow.preexisting):
        return _unconnected(flow, place)
    if flow.flags & Flag.RST_SENT:
        return _check(Confidence.LIKELY, "it carried nothing and was reset by HAProxy")
    if place.sessions and all(server.mode == "http" for server in place.sessions):
        why = "it carried nothing; an HTTP session connects when it has something to send"
        return _check(Confidence.LIKELY, why)
    why = "it carried nothing; a session whose sides are both silent looks the same"
    return _check(Confidence.POSSIBLE, why)


def _unconnected(flow: Flow, place: Place) -> Attribution:
    """A flow which never was established: a check or a session's attempt."""
    trying = "it never connected" if flow.state != State.SYN_SENT else "it is still connecting"
    if all(_takes_no_sessions(server) for server in place.sessions):
        why = f"{trying}, and its server takes no sessions now"
        return _check(Confidence.LIKELY, why)
    return _check(Confidence.POSSIBLE, f"{trying}; a session's attempt looks the same")


def _takes_no_sessions(server: Server) -> bool:
    status = server.status or ""
    return status.startswith(("DOWN", "MAINT", "NOLB"))


def _spoke(flow: Flow, place: Place) -> Attribution:
    """A flow with little data, over in a check's time or still open; no rhythm known."""
    if place.agents and not flow.sent_bytes:
        return Attribution(Role.AGENT, "", Confidence.POSSIBLE, "it was told something unasked")
    if not flow.held and flow.flags & Flag.RST_SENT:
        why = "short, with little data, reset by HAProxy; no rhythm known yet"
        return _check(Confidence.POSSIBLE, why)
    return _session(Confidence.POSSIBLE, "it carried data; an HTTP check does, too")
