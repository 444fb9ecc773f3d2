"""Growth: how fast something piles up, from the times at which each piece of it appeared.

The rate changes only when a piece comes, or in steps of ten seconds when none comes any
more, so that a finding's words stay the same as long as nothing happens.
"""

from __future__ import annotations

from collections.abc import Sequence

from hatrace.model.finding import Growth

SECOND_NS = 1_000_000_000
WINDOW_NS = 600 * SECOND_NS
"""Pieces older than that say nothing about how fast it grows now."""
LEAST_NS = 2 * SECOND_NS
"""Pieces that come together within this are one burst, and no rate."""
STEP_NS = 10 * SECOND_NS
"""Without news the interval is counted in steps of this."""


def growth(
    times_ns: Sequence[int], since_ns: int, now_ns: int, least_ns: int = LEAST_NS
) -> Growth | None:
    """The rate at which pieces came; ``None`` while too little has been seen.

    ``times_ns``: when each piece appeared that appeared under our eyes (not what was there
    before ``since_ns``, when we began to look).  ``least_ns``: pieces that came closer
    together than this count as come within it, so that one burst makes no forecast; before
    that time has passed since the first, nothing is known.
    """
    recent = sorted(time for time in times_ns if now_ns - time <= WINDOW_NS)
    if len(recent) < 2:
        return _from_few(len(recent), since_ns, now_ns)
    first, last = recent[0], recent[-1]
    if now_ns - first < least_ns:
        return None
    usual_gap = (last - first) // (len(recent) - 1)
    silence = now_ns - last
    if silence > max(3 * usual_gap, STEP_NS // 2):
        last += silence - silence % STEP_NS
    interval_ns = max(last - first, least_ns)
    return _rate(len(recent) - 1, interval_ns) if interval_ns else None


def _from_few(pieces: int, since_ns: int, now_ns: int) -> Growth | None:
    """None or one piece: over the whole time we looked, at most the window."""
    looked = min(now_ns - since_ns, WINDOW_NS)
    looked -= looked % STEP_NS
    return _rate(pieces, looked) if looked else None


def _rate(pieces: int, interval_ns: int) -> Growth:
    return Growth(
        per_minute=round(pieces * 60 * SECOND_NS / interval_ns, 2),
        interval_s=round(interval_ns / SECOND_NS, 1),
    )


def total(rates: Sequence[Growth | None]) -> Growth | None:
    """Several piles that run against the same limit, as one; ``None`` if none is known."""
    known = [rate for rate in rates if rate is not None]
    if not known:
        return None
    return Growth(
        per_minute=round(sum(rate.per_minute for rate in known), 2),
        interval_s=max(rate.interval_s for rate in known),
    )
