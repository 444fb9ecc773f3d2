"""plain-tcp-check: who is checked by connect and reset, and what to ask instead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hatrace.checks import plain_tcp_check
from hatrace.model.finding import Confidence, Severity
from tests.unit.checks.setups import HOST, lines, only, proposed, setup

BARE = """
global
    stats socket /run/a.sock
backend b
    mode {mode}
{more}
    server s1 192.0.2.1:{port} check {server}
    server s2 192.0.2.2:{port}
"""


def text(more: str = "", server: str = "", port: int = 4000, mode: str = "tcp") -> str:
    return BARE.format(more=more, server=server, port=port, mode=mode)


def test_a_bare_check() -> None:
    found = only(plain_tcp_check.findings(setup(text())))
    assert (found.severity, found.count) == (Severity.NOTICE, 1)
    assert lines(found) == ["7: server s1 192.0.2.1:4000 check"]
    assert "(43,200 a day)" in found.claim
    assert proposed(found)[:2] == list(plain_tcp_check.HTTP)
    assert found.verify[1].command == "echo 'show stat' | socat - /run/a.sock"


def test_tcp_check_without_a_rule_is_as_bare() -> None:
    found = only(plain_tcp_check.findings(setup(text("    option tcp-check"))))
    assert lines(found)[0] == "6: option tcp-check"


@pytest.mark.parametrize(
    ("more", "server"),
    [
        ("    option httpchk", ""),
        ("    option tcp-check\n    tcp-check expect string ok", ""),
        ("    option mysql-check", ""),
        ("", "check-ssl verify none"),
        ("", "ssl verify none"),
    ],
)
def test_a_check_that_says_something_is_fine(more: str, server: str) -> None:
    assert list(plain_tcp_check.findings(setup(text(more, server)))) == []


def test_no_option_takes_a_default_back() -> None:
    above = "\ndefaults\n    option httpchk\n" + text("    no option httpchk")
    assert only(plain_tcp_check.findings(setup(above))).count == 1


@pytest.mark.parametrize(
    ("port", "line"), [(3306, "option mysql-check"), (443, "option ssl-hello-chk")]
)
def test_a_known_port_gets_its_protocol(port: int, line: str) -> None:
    assert proposed(only(plain_tcp_check.findings(setup(text(port=port)))))[0] == line


def test_mode_http_always_gets_http() -> None:
    found = only(plain_tcp_check.findings(setup(text(port=443, mode="http"))))
    assert proposed(found)[0] == "option httpchk"


def test_an_erlang_server_on_this_host_makes_it_a_warning() -> None:
    host = replace(HOST, listeners={4000: "beam.smp", 443: "nginx"})
    found = only(plain_tcp_check.findings(setup(text(), host=host)))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.LIKELY)
    assert "Thousand Island before 1.3.12" in found.evidence[-1].note
