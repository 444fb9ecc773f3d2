"""How much detail hatrace can afford: less when too much happens, or when it costs too much.

Finished flows, one by one, are the detail that goes first: where more end each second than any
reader looks at, or where hatrace takes more of the CPU than it may, they are only counted from
then on.  If that is not enough, everything is looked at less often.  Totals, suspects and
findings stay whole: a leak is found later, never overlooked.  Each step is a `Trouble`, and so is
its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from hatrace.model.event import DETAIL, OWN, PACE, Trouble

SECOND_NS = 1_000_000_000
TICK_S = 1.0
LONGEST_S = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When to do with less; each with its reason."""

    flows_per_s: float = 100_000
    """Ended flows.  A tenth of a CPU, and 1.5 MB of capture each second."""
    cpu_share: float | None = None
    """Of one CPU, for hatrace as a whole; None: as it comes."""
    window_ns: int = 4 * SECOND_NS
    """The share is judged over so much time at least: a tick's work comes in one piece."""
    calm_ns: int = 10 * SECOND_NS
    """So long it must be calm before there is more detail again; doubled if that was too soon."""
    longest_calm_ns: int = 600 * SECOND_NS
    slowest: int = 4
    """Doublings of the time between two looks: 16 s."""


class Budget:
    """Judges at each tick.  ``full``: finished flows are wanted."""

    def __init__(self, limits: Limits, full: bool, now_ns: int, cpu_ns: int) -> None:
        self._limits = limits
        self._full = full
        self._rate = _Rate(limits, now_ns)
        self._share = _Share(limits, 0 if full else 1, now_ns, cpu_ns)
        self._said: dict[str, str] = {}

    @property
    def summary(self) -> bool:
        """Whether finished flows are to be counted only."""
        return not self._full or self._rate.high or self._share.level > 0

    @property
    def tick_s(self) -> float:
        """Time from one look to the next."""
        return TICK_S * (1 << max(0, self._share.level - 1))

    def judge(self, now_ns: int, cpu_ns: int, gone: int) -> Iterator[Trouble]:
        """What changes, given hatrace's CPU time and the flows that ended, both since its start."""
        self._rate.judge(now_ns, gone)
        self._share.judge(now_ns, cpu_ns)
        yield from self._say(DETAIL, self._why_summary(), now_ns)
        yield from self._say(PACE, self._why_slow(), now_ns)

    def _say(self, subject: str, why: str, now_ns: int) -> Iterator[Trouble]:
        """Once when it begins, again when it changes, and when it is over."""
        before = self._said.get(subject, "")
        if why == before:
            return
        self._said[subject] = why
        do = "totals, suspects and findings stay whole" if why else ""
        yield Trouble(now_ns, OWN, subject, why or before, do, over=not why)

    def _why_summary(self) -> str:
        if not self._full or not self.summary:
            return ""
        limit = f"{self._limits.flows_per_s:,.0f}"
        why = self._why_less() if self._share.level else f"more than {limit} of them each second"
        return f"flows that end are only counted: {why}"

    def _why_slow(self) -> str:
        if self.tick_s == TICK_S:
            return ""
        return f"everything is looked at every {self.tick_s:g} s only: {self._why_less()}"

    def _why_less(self) -> str:
        limit = f"{self._limits.cpu_share or 0:.1%}"
        return f"else hatrace takes more than {limit} of a CPU (--max-cpu)"


class _Rate:
    """Whether too many flows end.  Back to normal below half of that, for a while."""

    def __init__(self, limits: Limits, now_ns: int) -> None:
        self._limits = limits
        self._last_ns, self._gone = now_ns, 0
        self._high_ns = now_ns
        self.high = False

    def judge(self, now_ns: int, gone: int) -> None:
        rate = (gone - self._gone) / max(1, now_ns - self._last_ns) * SECOND_NS
        self._last_ns, self._gone = now_ns, gone
        if rate > self._limits.flows_per_s / (2 if self.high else 1):
            self.high, self._high_ns = True, now_ns
        elif now_ns - self._high_ns >= self._limits.calm_ns:
            self.high = False


class _Share:
    """What of one CPU hatrace takes, and the level of thrift that follows: 0 has all detail."""

    def __init__(self, limits: Limits, least: int, now_ns: int, cpu_ns: int) -> None:
        self._limits = limits
        self._least = self.level = least
        self._since_ns, self._cpu_ns = now_ns, cpu_ns
        self._changed_ns, self._calm_ns = now_ns, limits.calm_ns
        self._eased_ns: int | None = None
        self._settled = False

    def judge(self, now_ns: int, cpu_ns: int) -> None:
        limit, span_ns = self._limits.cpu_share, now_ns - self._since_ns
        if limit is None or span_ns < self._limits.window_ns << max(0, self.level - 2):
            return
        share = (cpu_ns - self._cpu_ns) / span_ns
        self._since_ns, self._cpu_ns = now_ns, cpu_ns
        if not self._settled:  # the first looks at everything cost more than all that follow
            self._settled = True
        elif share > limit:
            self._less(now_ns)
        elif share < limit / 2 and now_ns - self._changed_ns >= self._calm_ns:
            self._more(now_ns)

    def _less(self, now_ns: int) -> None:
        limits = self._limits
        too_soon = self._eased_ns is not None and now_ns - self._eased_ns < 2 * self._calm_ns
        longer_ns = min(2 * self._calm_ns, limits.longest_calm_ns)
        self._calm_ns = longer_ns if too_soon else limits.calm_ns
        self.level = min(self.level + 1, limits.slowest + 1)
        self._changed_ns = now_ns

    def _more(self, now_ns: int) -> None:
        if self.level > self._least:
            self.level -= 1
            self._changed_ns = self._eased_ns = now_ns


class Pace:
    """When to look again at what costs by the number of open flows: it may take a small share.

    On most hosts a look is cheap, and the least time decides.  The cheapest of the last three
    looks counts: a loaded host's take longer now and then, and the first ones have more to do.
    """

    def __init__(self, calm_share: float, busy_share: float) -> None:
        self._calm_share, self._busy_share = calm_share, busy_share
        self._costs: deque[float] = deque(maxlen=3)

    def took(self, cost_s: float) -> None:
        """A look took so much CPU."""
        self._costs.append(cost_s)

    def wait_s(self, calm: bool, least_s: float) -> float:
        """Time from one look to the next; ``calm``: nothing is suspected, so it may be long."""
        if len(self._costs) < 2:
            return least_s
        share = self._calm_share if calm else self._busy_share
        return max(least_s, min(min(self._costs) / share, LONGEST_S))
