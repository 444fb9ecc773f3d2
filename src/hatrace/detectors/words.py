"""Words: how numbers appear inside a finding's sentences.  The same input, the same bytes."""

from __future__ import annotations

from collections.abc import Iterable

from hatrace.model.finding import Forecast, Growth

_UNITS_S = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def number(value: int) -> str:
    """``1,234``."""
    return f"{value:,}"


def several(value: int, noun: str, plural: str = "") -> str:
    """``1 socket``, ``2 sockets``, ``2 processes``."""
    many = plural or noun + ("es" if noun.endswith("s") else "s")
    return f"{number(value)} {noun if value == 1 else many}"


def rate(value: float) -> str:
    """``0``, ``0.25``, ``4.1``, ``1,234``: two digits are all that a rate is worth."""
    if value >= 10:
        return number(round(value))
    return f"{value:.2f}".rstrip("0").rstrip(".")


def span(seconds: float) -> str:
    """``45 s``, ``3.5 min``, ``2.4 h``, ``3.1 days``."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} s" if seconds < 10 else f"{round(seconds)} s"


def about(seconds: float) -> str:
    """A time ahead, coarse enough not to change at each look: ``about 2 hours``."""
    for size, unit in _UNITS_S:
        if seconds >= 2 * size:
            step = 5 if seconds >= 20 * size else 1
            value = max(round(seconds / size / step) * step, 1)
            return f"about {value:,} {unit}s"
    return "a moment"


def milliseconds(value: int | float) -> str:
    """``200 ms``, ``2 s``, ``1.5 min``."""
    if value < 1000:
        return f"{value:.0f} ms"
    seconds = value / 1000
    return span(seconds) if seconds >= 120 else f"{seconds:.4g} s"


def grows(growth: Growth | None) -> str:
    """``growing by 30 per minute (over 12 s)``, or that it does not."""
    if growth is None:
        return "growth not known yet"
    if growth.per_minute <= 0:
        return "not growing"
    return f"growing by {rate(growth.per_minute)} per minute (over {span(growth.interval_s)})"


def until(forecast: Forecast | None) -> str:
    """``fd limit of pid 812 (1,024) in about 2 hours``; empty if it is not coming."""
    if forecast is None or forecast.seconds_left is None:
        return ""
    limit = f"{forecast.limit} ({number(forecast.maximum)})"
    return (
        f"{limit} reached"
        if not forecast.seconds_left
        else (f"{limit} in {about(forecast.seconds_left)}")
    )


def sentence(parts: Iterable[str], separator: str = "; ") -> str:
    """The parts that say something, joined."""
    return separator.join(part for part in parts if part)
