"""What holds for all static checks."""

from __future__ import annotations

import pytest

from hatrace import checks
from hatrace.model.finding import Severity
from hatrace.model.setup import HostFacts, Validation
from hatrace.resources import findings_dir
from tests.unit.checks.setups import DEFAULTS, HEALTHY, setup

ACCEPTED = Validation(True, "/usr/sbin/haproxy", "3.2.26-1", ("Configuration file is valid",))
EVERYTHING_WRONG = """
global
    maxconn 40000
defaults
    mode tcp
    timeout tunnel 2h
listen a
    bind :40000
    server s 192.0.2.1:80 check
backend b
    option httpchk
    timeout connect 1s
    timeout check 9s
    server t 192.0.2.1:80 check port 8000 inter 1s
"""


def test_a_healthy_setup_has_no_finding() -> None:
    told = checks.ask(setup(DEFAULTS + HEALTHY, "3.4.99", validation=ACCEPTED, bugs=()))
    assert told.findings == ()
    assert [one.question for one in told.unasked] == ["config-rejected"]  # of another version


def test_the_worst_comes_first() -> None:
    told = checks.ask(setup(EVERYTHING_WRONG, "2.9.1"))
    severities = [list(Severity).index(one.severity) for one in told.findings]
    assert severities == sorted(severities, reverse=True)
    assert {one.slug for one in told.findings} == {
        *("zero-copy-tcp", "known-leaks", "plain-tcp-check", "check-timing"),
        *("missing-timeout", "no-hard-stop", "ephemeral-bind", "fd-limit"),
    }


def test_each_finding_says_where_why_what_to_do_and_how_to_verify() -> None:
    for one in checks.ask(setup(EVERYTHING_WRONG, "2.9.1")).findings:
        assert one.claim and one.cause and one.next_steps and one.verify, one.slug
        assert one.evidence, one.slug
        if one.slug != "known-leaks":
            assert one.evidence[0].note.count("haproxy.cfg:") == 1
        assert one.count > 0


def test_what_is_not_known_is_said() -> None:
    told = checks.ask(setup(DEFAULTS + HEALTHY.replace("listen", "listen"), None, host=HostFacts()))
    assert {one.question for one in told.unasked} == {
        *("config-rejected", "known-leaks", "ephemeral-bind", "fd-limit"),
    }


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.SLUG)
def test_each_has_its_page(check: checks.Check) -> None:
    page = (findings_dir() / f"{check.SLUG}.md").read_text()
    assert page.startswith(f"# {check.SLUG}\n")
    for heading in ("Why", "Confirm by hand", "What to do", "False positives"):
        assert f"## {heading}" in page


def test_a_line_under_a_condition_is_doubted() -> None:
    text = DEFAULTS + "\n.if defined(X)\nlisten a\n    bind :40000\n.endif\n"
    (found,) = (one for one in checks.ask(setup(text)).findings if one.slug == "ephemeral-bind")
    assert "between .if and .endif" in found.caveat
