"""Signals to real processes: the right one, and only as long as it is the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hatrace.actions.signals import Handle
from hatrace.errors import EnvironmentLacks
from hatrace.haproxy import procfs
from hatrace.model.topology import Kind, Process

DEADLINE_S = 20.0


@pytest.fixture
def child() -> Iterator[Process]:
    """A process that waits for its standard input to end."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        stat = procfs.stat(running.pid)
        assert stat is not None
        yield Process(running.pid, Kind.OLD_WORKER, os.getpid(), stat.comm, stat.started_ns)
        running.kill()


def test_a_signal_ends_it_and_its_end_is_seen(child: Process) -> None:
    with Handle(child) as handle:
        assert not handle.ended()
        handle.send(signal.SIGTERM)
        assert handle.ended(DEADLINE_S), "a zombie, which nobody has waited for, has ended"
        handle.send(signal.SIGTERM)


def test_a_later_process_of_the_same_pid_is_not_hit(child: Process) -> None:
    with pytest.raises(EnvironmentLacks, match="another one by now"):
        Handle(replace(child, started_ns=child.started_ns - 10**9))
    assert procfs.stat(child.pid) is not None


def test_a_pid_without_a_process() -> None:
    with pytest.raises(EnvironmentLacks, match="cannot reach process"):
        Handle(Process(2**22 + 1, Kind.OLD_WORKER, 1, "haproxy", 0))
