"""Each printer, at the borders of its units."""

from __future__ import annotations

import time

import pytest

from hatrace.sinks import text


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [
        (None, "?"),
        (0, "0s"),
        (0.00035, "350us"),
        (0.0009999, "1ms"),
        (0.012, "12ms"),
        (0.9999, "1s"),
        (4.24, "4.2s"),
        (59.96, "1m"),
        (200, "3m20s"),
        (3_599.6, "1h"),
        (7_800, "2h10m"),
        (3 * 86_400 + 4 * 3_600 + 59, "3d4h"),
        (-5, "-5s"),
    ],
)
def test_duration(seconds: float | None, printed: str) -> None:
    assert text.duration(seconds) == printed


def test_duration_of_nanoseconds() -> None:
    assert text.duration_ns(1_500_000_000) == "1.5s"
    assert text.duration_ns(None) == "?"


@pytest.mark.parametrize(
    ("number", "printed"),
    [(None, "?"), (0, "0"), (12_345, "12,345"), (1_240_000, "1.2M"), (3_400_000_000, "3.4G")],
)
def test_count(number: int | None, printed: str) -> None:
    assert text.count(number) == printed


@pytest.mark.parametrize(
    ("number", "printed"),
    [(None, "?"), (0.0, "0"), (-0.001, "0"), (0.25, "0.25"), (4.06, "4.1"), (1_234.4, "1,234")],
)
def test_rate(number: float | None, printed: str) -> None:
    assert text.rate(number) == printed


def test_growth_has_a_sign() -> None:
    assert text.growth(4.1) == "+4.1/min"
    assert text.growth(-2) == "-2/min"
    assert text.growth(0) == "0/min"


@pytest.mark.parametrize(
    ("number", "printed"),
    [(None, "?"), (512, "512 B"), (1_536, "1.5 KiB"), (58 << 20, "58 MiB"), (5 << 40, "5.0 TiB")],
)
def test_size(number: int | None, printed: str) -> None:
    assert text.size(number) == printed


@pytest.mark.parametrize(
    ("raw", "printed"),
    [
        ("web/s1 [red] µ ö", "web/s1 [red] µ ö"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("abc\u202edef", "abc\\u202edef"),
        ("\x9b31m", "\\x9b31m"),
        ("\udc80", "\\udc80"),
    ],
)
def test_escape_leaves_nothing_to_obey(raw: str, printed: str) -> None:
    assert text.escape(raw) == printed
    assert text.escape(raw).isprintable()


def test_wall_time_names_its_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-1")
    time.tzset()
    try:
        assert text.wall_time(0) == "1970-01-01 01:00:00+01:00"
        assert text.clock_time(0) == "01:00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_plural() -> None:
    assert text.plural(1, "finding") == "1 finding"
    assert text.plural(1200, "process") == "1,200 processes"
