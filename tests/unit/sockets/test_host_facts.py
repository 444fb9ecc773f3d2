"""The limits of this host: parsed, and read for real."""

from __future__ import annotations

import os
import resource
import socket

import pytest

from hatrace.sockets.host_facts import host_facts, ranges


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\n", []),
        ("8080\n", [(8080, 8080)]),
        ("8080,9000-9010,9012\n", [(8080, 8080), (9000, 9010), (9012, 9012)]),
        ("garbage", []),
    ],
)
def test_ranges(text: str, found: list[tuple[int, int]]) -> None:
    assert list(ranges(text)) == found


def test_this_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        facts = host_facts()
        port = listener.getsockname()[1]
    assert facts.port_low is not None and facts.port_high is not None
    assert 0 < facts.port_low <= facts.port_high < 65536
    assert facts.cpus == len(os.sched_getaffinity(0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert facts.fd_hard == (hard if hard != resource.RLIM_INFINITY else None)
    assert facts.listeners[port]


def test_of_a_process_it_is_that_processs() -> None:
    assert host_facts(os.getpid()).fd_hard == host_facts().fd_hard
