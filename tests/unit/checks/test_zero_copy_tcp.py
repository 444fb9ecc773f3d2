"""zero-copy-tcp: incident 1, with its true cause."""

from __future__ import annotations

import pytest

from hatrace.checks import zero_copy_tcp
from hatrace.model.finding import Severity
from tests.unit.checks.setups import lines, only, proposed, setup, unasked

INCIDENT = """
global
    stats socket /run/a.sock
defaults
    mode tcp
frontend fe
    bind :443
    default_backend be
backend be
    option httpchk
    server s1 192.0.2.1:443 check port 8000 inter 10s
    server s2 192.0.2.2:443 check port 8000 inter 10s backup
"""


def test_the_incident_is_named_and_the_checks_are_not() -> None:
    found = only(zero_copy_tcp.findings(setup(INCIDENT, "2.9.1")))
    assert found.severity is Severity.CRITICAL
    assert lines(found) == [
        "5: mode tcp",
        "10: option httpchk",
        "11: server s1 192.0.2.1:443 check port 8000 inter 10s",
    ]
    assert found.known_bug is not None
    assert found.known_bug.fixed_in == "2.9.2"
    assert "health checks of be (2 servers" in found.ruled_out[0]
    assert "tune.disable-zero-copy-forwarding" in proposed(found)


def test_without_such_checks_it_is_the_same_bug() -> None:
    found = only(zero_copy_tcp.findings(setup(INCIDENT.replace("port 8000", ""), "2.9.1")))
    assert found.ruled_out == ()


@pytest.mark.parametrize("version", ["2.9.0", "2.9.2", "2.9.15", "3.0.5", "2.8.1"])
def test_other_versions_are_silent(version: str) -> None:
    assert list(zero_copy_tcp.findings(setup(INCIDENT, version))) == []


@pytest.mark.parametrize(
    "line", ["tune.disable-zero-copy-forwarding", "tune.pt.zero-copy-forwarding off"]
)
def test_a_work_around_silences_it(line: str) -> None:
    text = INCIDENT.replace("global", f"global\n    {line}")
    assert list(zero_copy_tcp.findings(setup(text, "2.9.1"))) == []


def test_the_switch_does_so_too() -> None:
    assert list(zero_copy_tcp.findings(setup(INCIDENT, "2.9.1", options=("-dZ",)))) == []


def test_mode_http_is_not_concerned() -> None:
    text = INCIDENT.replace("mode tcp", "mode http")
    assert list(zero_copy_tcp.findings(setup(text, "2.9.1"))) == []


def test_an_unknown_version_is_said() -> None:
    assert "--version" in unasked(zero_copy_tcp.findings(setup(INCIDENT, None))).why
