"""How things are printed: one printer each for untrusted text, durations, counts and bytes.

Every sink prints through these, so the screen, the lines and the reports say it alike.
"""

from __future__ import annotations

import itertools
import time


def escape(text: str) -> str:
    """``text`` with nothing in it that a terminal would obey or hide.

    Control characters, escape sequences, direction overrides, line separators and lone
    surrogates become visible (``\\x1b``, ``\\n``, ``\\u202e``); printable text stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _visible(char) for char in text)


def _visible(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


_UNITS_S = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def duration(seconds: float | None) -> str:
    """``350us``, ``12ms``, ``4.2s``, ``3m20s``, ``2h10m``, ``3d4h``; ``?`` if unknown."""
    if seconds is None:
        return "?"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if round(seconds, 1) >= 60:
        return _two_units(round(seconds))
    if round(seconds, 3) >= 1:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    if round(seconds, 6) >= 0.001:
        return f"{seconds * 1e3:.0f}ms"
    return f"{seconds * 1e6:.0f}us" if seconds else "0s"


def _two_units(seconds: int) -> str:
    """The largest unit and the next smaller one; a zero second part is left out."""
    for (unit_s, unit), (next_s, next_unit) in itertools.pairwise(_UNITS_S):
        if seconds >= unit_s:
            rest = seconds % unit_s // next_s
            return f"{seconds // unit_s}{unit}" + (f"{rest}{next_unit}" if rest else "")
    return f"{seconds}s"


def duration_ns(span_ns: int | None) -> str:
    """A span in ns, printed like `duration`."""
    return duration(None if span_ns is None else span_ns / 1e9)


def count(number: int | None) -> str:
    """``7``, ``12,345``, ``1.2M``, ``3.4G``; ``?`` if unknown."""
    if number is None:
        return "?"
    for limit, unit in ((10**9, "G"), (10**6, "M")):
        if abs(number) >= limit:
            return f"{number / limit:.1f}{unit}"
    return f"{number:,}"


def rate(per_unit: float | None) -> str:
    """A rate without its unit: ``0``, ``0.25``, ``4.1``, ``1,234``; ``?`` if unknown."""
    if per_unit is None:
        return "?"
    if abs(per_unit) >= 10:
        return count(round(per_unit))
    digits = 2 if abs(per_unit) < 1 else 1
    text = f"{per_unit:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def growth(per_minute: float | None) -> str:
    """A signed rate: ``+4.1/min``, ``-2/min``, ``0/min``."""
    text = rate(per_minute)
    sign = "+" if per_minute is not None and per_minute > 0 and text != "0" else ""
    return f"{sign}{text}/min"


def size(number_bytes: int | None) -> str:
    """``512 B``, ``1.5 KiB``, ``58 MiB``; ``?`` if unknown."""
    if number_bytes is None:
        return "?"
    value, unit = float(number_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    digits = 1 if unit != "B" and value < 10 else 0
    return f"{value:.{digits}f} {unit}"


def wall_time(unix_s: float) -> str:
    """Local time of this host, with its offset: ``2026-11-21 03:12:44+01:00``."""
    text = time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(unix_s))
    return f"{text[:-2]}:{text[-2:]}"


def clock_time(unix_s: float) -> str:
    """Local time of day: ``03:12:44``."""
    return time.strftime("%H:%M:%S", time.localtime(unix_s))


def plural(number: int, noun: str) -> str:
    """``1 finding``, ``2 findings``, ``3 processes``."""
    if number == 1:
        return f"1 {noun}"
    return f"{count(number)} {noun}{'es' if noun.endswith(('s', 'x')) else 's'}"
