"""fd-limit: the numbers are `show info`'s (Maxsock) of real HAProxys with two threads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hatrace.checks import fd_limit
from hatrace.checks._fds import descriptors
from hatrace.model.finding import Severity
from tests.unit.checks.setups import HOST, lines, only, process, proposed, setup, unasked

BASE = """
global
    stats socket /run/a.sock
    nbthread 2
    maxconn 1000
listen a
    bind 127.0.0.1:31001
"""


@pytest.mark.parametrize(
    ("more", "maxsock"),
    [
        ("", 2028),
        ("    bind 127.0.0.1:31002-31003\n", 2030),
        ("    bind unix@/run/b\n", 2029),
        ("global\n    stats maxconn 30\n", 2048),
        ("    server a 127.0.0.1:1 check\n    server b 127.0.0.1:1 check\n", 2030),
        ("    server a 127.0.0.1:1 check agent-check agent-port 2\n", 2031),
        ("    server a 127.0.0.1:1\n", 2028),
        ("    server-template a 5 127.0.0.1:1 check\n", 2033),
        ("    option splice-auto\n", 2528),
        ("peers p\n    bind 127.0.0.1:31009\n    server here\n", 2032),
        ("peers p\n    peer here 127.0.0.1:31009\n    peer o 127.0.0.1:31010\n", 2035),
    ],
)
def test_as_haproxy_reckons(more: str, maxsock: int) -> None:
    told = descriptors(setup(BASE + more))
    assert told is not None
    assert told.needed == maxsock
    assert told.arithmetic.endswith(f"= {maxsock}")


def test_pipes_may_be_limited() -> None:
    told = descriptors(
        setup(BASE.replace("global", "global\n    maxpipes 10") + " option splice-auto")
    )
    assert told is not None
    assert told.needed == 2048


def test_without_maxconn_it_takes_what_there_is() -> None:
    told = descriptors(setup(BASE.replace("    maxconn 1000\n", "")))
    assert told is not None
    assert (told.maxconn, told.computed, told.needed) == (9986, True, 20_000)


def test_too_small_a_limit() -> None:
    found = only(fd_limit.findings(setup(BASE, host=replace(HOST, fd_hard=1024))))
    assert found.severity is Severity.WARNING
    assert "maxconn 1,000 needs 2,028 file descriptors, the limit is 1,024" in found.claim
    assert lines(found) == ["4: nbthread 2", "5: maxconn 1000"]
    assert proposed(found)[-1] == "maxconn 498"


def test_a_running_one_will_not_start_again() -> None:
    host = replace(HOST, fd_hard=1024)
    found = only(fd_limit.findings(setup(BASE, host=host, process=process())))
    assert found.severity is Severity.CRITICAL
    assert "towards the master" in found.cause


def test_who_may_raise_its_limit_has_nr_open() -> None:
    host = replace(HOST, fd_hard=1024, fd_may_raise=True)
    assert list(fd_limit.findings(setup(BASE, host=host))) == []


def test_a_limit_of_its_own() -> None:
    text = BASE.replace("global", "global\n    fd-hard-limit 2000")
    assert "fd-hard-limit" in only(fd_limit.findings(setup(text))).cause


def test_ulimit_n_too_small() -> None:
    text = BASE.replace("global", "global\n    ulimit-n 1500")
    found = only(fd_limit.findings(setup(text)))
    assert (found.subject, lines(found)) == ("ulimit-n", ["3: ulimit-n 1500"])


def test_nothing_known_is_said() -> None:
    host = replace(HOST, fd_hard=None)
    assert unasked(fd_limit.findings(setup(BASE.replace("maxconn 1000", ""), host=host)))
