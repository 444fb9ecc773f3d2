"""missing-timeout and no-hard-stop: what may live for ever."""

from __future__ import annotations

from hatrace.checks import missing_timeout, no_hard_stop
from hatrace.model.finding import Severity
from hatrace.model.topology import Kind
from tests.unit.checks.setups import DEFAULTS, HEALTHY, lines, only, process, proposed, setup

BARE = """
frontend f
    bind :80
backend b
    server s 192.0.2.1:80
backend empty
"""


def test_each_missing_timeout_is_a_finding() -> None:
    found = list(missing_timeout.findings(setup(BARE)))
    assert [one.subject for one in found] == [
        *("timeout client", "timeout server", "timeout connect"),
    ]
    assert lines(found[0]) == ["2: frontend f"]
    assert lines(found[1]) == ["4: backend b"]
    assert proposed(found[0])[0] == "timeout client 50s"


def test_zero_is_none() -> None:
    text = DEFAULTS.replace("timeout client 50s", "timeout client 0") + HEALTHY
    found = only(missing_timeout.findings(setup(text)))
    assert lines(found) == ["8: timeout client 0"]


def test_half_closed_sessions_live_as_long_as_the_tunnel() -> None:
    text = DEFAULTS + HEALTHY + "    timeout tunnel 1h\n"
    client, server = missing_timeout.findings(setup(text))
    assert client.subject == "timeout client-fin"
    assert "half-closed may stay for 1h" in client.claim
    assert server.subject == "timeout server-fin"


def test_fin_timeouts_answer_that() -> None:
    text = DEFAULTS + HEALTHY + "    timeout tunnel 1h\n    timeout client-fin 30s\n"
    assert only(missing_timeout.findings(setup(text))).subject == "timeout server-fin"


def test_ordinary_timeouts_need_no_fin() -> None:
    assert list(missing_timeout.findings(setup(DEFAULTS + HEALTHY))) == []


def without_stop(text: str) -> str:
    return text.replace("    hard-stop-after 15m\n", "")


def test_short_requests_without_hard_stop_are_a_notice() -> None:
    found = only(no_hard_stop.findings(setup(without_stop(DEFAULTS + HEALTHY))))
    assert found.severity is Severity.NOTICE
    assert proposed(found)[0] == "hard-stop-after 15m"


def test_long_sessions_make_it_a_warning_and_are_not_cut_by_the_proposal() -> None:
    text = without_stop(DEFAULTS + HEALTHY) + "    timeout tunnel 2h\n"
    found = only(no_hard_stop.findings(setup(text)))
    assert found.severity is Severity.WARNING
    assert lines(found)[-1] == "16: timeout tunnel 2h"
    assert proposed(found)[0] == "hard-stop-after 2h"


def test_old_workers_are_evidence() -> None:
    old = process(Kind.OLD_WORKER, pid=7)
    text = without_stop(DEFAULTS + HEALTHY)
    found = only(no_hard_stop.findings(setup(text, process=process(), old_workers=(old,))))
    assert found.severity is Severity.WARNING
    assert [one.pid for one in found.evidence] == [None, 7]
    assert "1 old worker now" in found.claim
    assert proposed(found)[1] == "/proc/812/exe -c -q -f haproxy.cfg && kill -USR2 812"


def test_a_stop_is_enough() -> None:
    assert list(no_hard_stop.findings(setup(DEFAULTS + HEALTHY))) == []
