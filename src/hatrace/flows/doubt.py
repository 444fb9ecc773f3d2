"""How sure: confidences in order, and what a doubt does to one."""

from __future__ import annotations

from dataclasses import replace

from hatrace.model.attribution import Attribution
from hatrace.model.finding import Confidence

ORDER = (Confidence.POSSIBLE, Confidence.LIKELY, Confidence.CERTAIN)


def at_least(one: Attribution, confidence: Confidence) -> bool:
    return ORDER.index(one.confidence) >= ORDER.index(confidence)


def lower_of(one: Confidence, other: Confidence) -> Confidence:
    return min(one, other, key=ORDER.index)


def less_sure(one: Attribution, because: str) -> Attribution:
    """The same, a step less sure, with the doubt beside the reason."""
    lower = ORDER[max(0, ORDER.index(one.confidence) - 1)]
    return replace(one, confidence=lower, reason="; ".join(filter(None, (one.reason, because))))
