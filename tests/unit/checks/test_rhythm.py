"""Check arithmetic: the rows are what real HAProxys (2.2, 2.6, 3.0, 3.2) were seen to do."""

from __future__ import annotations

import pytest

from hatrace.checks import _rhythm, check_timing
from hatrace.model.finding import Severity
from hatrace.model.setup import CheckRow
from tests.unit.checks.setups import DEFAULTS, HEALTHY, lines, only, proposed, setup


def row(lines: str, server: str) -> CheckRow:
    text = f"{DEFAULTS}\nbackend b\n{lines}\n    server s 192.0.2.1:80 check {server}\n"
    (found,) = _rhythm.rows(setup(text))
    return found


@pytest.mark.parametrize(
    ("section", "server", "down_ms", "up_ms"),
    [
        ("", "inter 1s", 6000, 2000),
        (" timeout check 300ms", "inter 1s", 6000, 2000),
        (" timeout connect 200ms\n timeout check 300ms", "inter 1s", 3900, 2000),
        (" timeout check 2s", "inter 1s", 9000, 2000),
        ("", "inter 1s fastinter 300ms downinter 700ms", 4600, 1000),
        ("", "inter 1s fall 1 rise 1", 2000, 1000),
        ("", "", 12_000, 4000),
    ],
)
def test_measured(section: str, server: str, down_ms: int, up_ms: int) -> None:
    found = row(section, server)
    assert (found.down_within_ms, found.up_within_ms) == (down_ms, up_ms)


def test_checks_a_day() -> None:
    assert row("", "inter 10s").per_day == 8640


def test_servers_with_the_same_settings_share_a_row() -> None:
    text = DEFAULTS + HEALTHY + "    server s3 192.0.2.13:80 check inter 9s\n    server s4 a:80\n"
    assert [found.servers for found in _rhythm.rows(setup(text))] == [2, 1]


def test_a_timeout_longer_than_the_interval() -> None:
    text = DEFAULTS + "listen a\n timeout check 20s\n server s 192.0.2.1:80 check inter 10s\n"
    found = only(check_timing.findings(setup(text)))
    assert found.severity is Severity.WARNING
    assert lines(found)[0] == "12: timeout check 20s"
    assert found.cause.startswith(
        "inter 10s + a check that hangs 20s + 2 x (fastinter 10s + 20s) = 90s until DOWN"
    )
    assert proposed(found)[0] == "timeout check 5s"


def test_a_short_interval_without_a_timeout() -> None:
    text = DEFAULTS + "listen a\n server s 192.0.2.1:80 check inter 200ms\n"
    found, busy = check_timing.findings(setup(text))
    assert found.severity is Severity.NOTICE
    assert "inter 200ms is the time for connect and answer together" in found.claim
    assert "432,000 times a day, 5.0 a second, by 1 server line" in busy.claim


def test_a_late_verdict() -> None:
    text = DEFAULTS + "listen a\n server s 192.0.2.1:80 check inter 30s\n"
    assert "gets traffic for 3m at worst" in only(check_timing.findings(setup(text))).claim


def test_one_address_checked_by_many_lines() -> None:
    many = "".join(f"backend b{n}\n server s 192.0.2.1:80 check\n" for n in range(6))
    found = only(check_timing.findings(setup(DEFAULTS + many)))
    assert found.count == 6
    assert "259,200 times a day, 3.0 a second" in found.claim
    assert proposed(found) == ["track b0/s"]


def test_followers_make_no_checks() -> None:
    many = "".join(f"backend b{n}\n server s 192.0.2.1:80 track b/s\n" for n in range(6))
    text = f"{DEFAULTS}backend b\n server s 192.0.2.1:80 check\n{many}"
    assert list(check_timing.findings(setup(text))) == []


def test_ordinary_settings_are_silent() -> None:
    assert list(check_timing.findings(setup(DEFAULTS + HEALTHY))) == []
