"""The runs of the checks of one address: from flows, and HAProxy's words on them."""

from __future__ import annotations

import errno
from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence
from statistics import median

from hatrace.model.flow import Flag, Flow, State
from hatrace.model.world import Check

KEPT = 32
"""Runs remembered."""
DISTANCES = 8
"""The observed rhythm is the median of so many, to follow a change of state soon."""

REFUSALS = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timed out",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ECONNRESET: "reset",
}


class Runs:
    """The latest checks that one worker made of one address and port."""

    def __init__(self) -> None:
        self.ended = 0
        self.since_ns = 0
        """When its server was first listed; 0: not yet."""
        self.sampled: deque[tuple[int, str]] = deque(maxlen=KEPT)
        """Check status as samples had it: that of the latest check which had ended."""
        self.traced: deque[tuple[int, str]] = deque(maxlen=KEPT)
        """Results as HAProxy's trace told them, right before the socket is let go."""
        self._flows: list[tuple[int, Flow]] = []
        self._births: deque[tuple[int, int]] = deque(maxlen=KEPT)

    def end(self, flow: Flow) -> None:
        """Flows come in the order of their ends; the runs are kept in that of their starts."""
        self.ended += 1
        if flow.connect_ns:
            insort(self._flows, (flow.connect_ns, flow), key=lambda pair: pair[0])
            del self._flows[:-KEPT]

    def count(self, at_ns: int, born: int) -> None:
        """Remembers when the number of births grew."""
        if self._births and born < self._births[-1][1]:
            self._births.clear()
        if not self._births or born > self._births[-1][1]:
            self._births.append((at_ns, born))

    def observed_ms(
        self, open_now: Iterable[Flow], sharing: int, all_counted: bool
    ) -> float | None:
        """Median distance of a server's checks; with several servers, that of every n-th.

        Without two flows to compare, the mean distance of the births that were counted, if
        all of these are checks.
        """
        connects = [at_ns for at_ns, _ in self._flows]
        connects += [flow.connect_ns for flow in open_now if flow.connect_ns]
        connects = sorted(connects)[-(DISTANCES * sharing + 1) :]
        distances = [b - a for a, b in zip(connects, connects[sharing:], strict=False)]
        if distances:
            return round(median(distances) / 1e6, 1)
        return self._mean_ms(sharing) if all_counted else None

    def _mean_ms(self, sharing: int) -> float | None:
        recent = list(self._births)[-DISTANCES - 1 :]
        if len(recent) < 3:
            return None
        (first_ns, first), (last_ns, last) = recent[1], recent[-1]
        return round((last_ns - first_ns) / 1e6 / (last - first) * sharing, 1)

    def recent(self, held: Iterable[Flow]) -> tuple[Check, ...]:
        """The latest runs, oldest first, those still held included."""
        now = [_running(flow) for flow in held if not flow.preexisting]
        return tuple(sorted([*self._over(), *now], key=lambda run: run.at_ns)[-KEPT:])

    def _over(self) -> list[Check]:
        """The ended runs, each with the best word on its result."""
        flows = [flow for _, flow in self._flows]
        ends = [flow.released_ns or flow.gone_ns for flow in flows]
        starts = [flow.connect_ns for flow in flows]
        return [
            _check(flow, self._word(number, starts, ends) or shown(flow))
            for number, flow in enumerate(flows)
        ]

    def _word(self, number: int, starts: Sequence[int], ends: Sequence[int]) -> str:
        """HAProxy's word on a run; traced between its start and the next one's, or sampled
        between its end and the next one's."""
        last = number + 1 == len(starts)
        traced = _last_between(self.traced, starts[number], None if last else starts[number + 1])
        if traced:
            return traced
        return _first_between(self.sampled, ends[number], None if last else ends[number + 1])


def _last_between(words: Iterable[tuple[int, str]], low_ns: int, high_ns: int | None) -> str:
    found = [word for at_ns, word in words if _within(at_ns, low_ns, high_ns)]
    return found[-1] if found else ""


def _first_between(words: Iterable[tuple[int, str]], low_ns: int, high_ns: int | None) -> str:
    found = (word for at_ns, word in words if _within(at_ns, low_ns, high_ns))
    return next(found, "")


def _within(at_ns: int, low_ns: int, high_ns: int | None) -> bool:
    return low_ns <= at_ns and (high_ns is None or at_ns < high_ns)


def shown(flow: Flow) -> str:
    """What an ended check's socket shows of its result."""
    if flow.flags & Flag.FAILED or not flow.established_ns:
        return REFUSALS.get(flow.error, "not connected")
    if flow.flags & Flag.RST_RECEIVED:
        return "reset by the peer"
    if flow.received_bytes:
        return "answered"
    return "no answer" if flow.sent_bytes else "connected"


def _running(flow: Flow) -> Check:
    """A check whose socket is still held, in the words of its state."""
    words: dict[int, str] = {
        State.SYN_SENT: "connecting",
        State.ESTABLISHED: "running",
        State.CLOSE_WAIT: "closed by the peer, held",
        State.CLOSE: "gone, held",
    }
    return _check(flow, "let go" if flow.released_ns else words.get(flow.state, "closing"))


def _check(flow: Flow, result: str) -> Check:
    return Check(
        at_ns=flow.connect_ns,
        duration_ns=flow.released_ns - flow.connect_ns if flow.released_ns else None,
        result=result,
        local=flow.local,
        pid=flow.pid,
        inode=flow.inode,
    )
