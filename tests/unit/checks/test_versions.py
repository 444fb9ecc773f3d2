"""known-leaks and config-rejected: what others said."""

from __future__ import annotations

import pytest

from hatrace.checks import config_rejected, known_leaks
from hatrace.model.finding import KnownBug, Severity
from hatrace.model.setup import Validation
from tests.unit.checks.setups import only, setup, unasked

ALERT = "[ALERT] (7) : config : parsing [haproxy.cfg:2] : unknown keyword 'bogus'"


def test_a_version_with_fixes_in_its_branch_is_a_warning() -> None:
    found = only(known_leaks.findings(setup("", "2.9.1")))
    assert found.severity is Severity.WARNING
    assert found.count == len(found.evidence)
    assert "2.9.11 has fixes" in found.claim
    assert found.evidence[0].note.startswith("stream-leak: mode tcp: zero-copy forwarding")
    assert "fixed in 2.9.2" in found.evidence[0].note


def test_without_one_it_is_a_notice() -> None:
    found = only(known_leaks.findings(setup("", "2.6.12-1+deb12u4")))
    assert found.severity is Severity.NOTICE
    assert "has fixes" not in found.claim


def test_each_bug_is_listed_once() -> None:
    bug = KnownBug("commit a", "all of it", "3.2.7")
    found = only(known_leaks.findings(setup("", bugs=(("stream-leak", bug), ("check-leak", bug)))))
    assert [one.note for one in found.evidence] == [
        "stream-leak, check-leak: all of it (commit a; fixed in 3.2.7)"
    ]
    assert found.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("version", "fixed_in", "newest"),
    [
        ("2.9.1", ("2.9.2", "2.9.11, 3.0.5"), "2.9.11"),
        ("2.9.12", ("2.9.2", "2.9.11, 3.0.5"), ""),
        ("3.0.4-1+deb13u3", ("2.9.11, 3.0.5 (for 2.8: not verified)",), "3.0.5"),
        ("3.1-dev9", ("3.1.0",), ""),
        ("3.0.0", ("3.1.0 (for 3.0: not verified)",), ""),
    ],
)
def test_newest_fix(version: str, fixed_in: tuple[str, ...], newest: str) -> None:
    bugs = [KnownBug("", "", each) for each in fixed_in]
    assert known_leaks.newest_fix(version, bugs) == newest


def test_an_unknown_version_is_said() -> None:
    assert "--version" in unasked(known_leaks.findings(setup("", None))).why


def said(accepted: bool, version: str = "3.2.4", privileged: bool = True) -> Validation:
    return Validation(accepted, "/usr/sbin/haproxy", version, (ALERT,), privileged)


def test_a_rejected_file_is_critical_and_haproxy_is_quoted() -> None:
    found = only(config_rejected.findings(setup("", validation=said(False))))
    assert found.severity is Severity.CRITICAL
    assert [one.note for one in found.evidence] == [ALERT]
    assert found.caveat == ""


def test_without_root_it_may_be_a_matter_of_permission() -> None:
    found = only(config_rejected.findings(setup("", validation=said(False, privileged=False))))
    assert "without root" in found.caveat


def test_an_accepted_file_is_no_finding() -> None:
    assert list(config_rejected.findings(setup("", validation=said(True)))) == []


def test_another_version_cannot_speak_for_it() -> None:
    assert (
        "cannot speak for 3.2.4"
        in unasked(config_rejected.findings(setup("", validation=said(False, "2.6.12")))).why
    )


def test_not_asked_is_said() -> None:
    why = unasked(config_rejected.findings(setup("", not_validated="no haproxy on this host"))).why
    assert why == "no haproxy on this host"
