"""Nothing that a stage started outlives it, whatever ends hatrace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hatrace.errors import EnvironmentLacks
from hatrace.lab import guard
from hatrace.lab.stage import PORTS, Stage, wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
]
FORKS = [sys.executable, "-c", "import os, time; os.fork() or os.setsid(); time.sleep(600)"]


def test_all_kinds_of_processes_end_with_the_stage() -> None:
    with Stage() as stage:
        stopped = stage.spawn(SLEEP, "a.log")
        stage.spawn(STUBBORN, "b.log")
        stage.spawn(FORKS, "c.log")
        os.kill(stopped.pid, signal.SIGSTOP)
        assert wait_until(lambda: len(guard.members(stage.token)) == 4)
    assert guard.members(stage.token) == []
    assert not stage.directory.exists()


def test_an_exception_ends_them_as_well() -> None:
    with pytest.raises(RuntimeError, match="boom"), Stage() as stage:
        stage.spawn(SLEEP, "a.log")
        raise RuntimeError("boom")
    assert guard.members(stage.token) == []


def test_kill_9_of_the_owner_ends_them_as_well() -> None:
    program = (
        "import sys, time; from hatrace.lab.stage import Stage; s = Stage();"
        f"s.spawn({SLEEP!r}, 'a.log'); print(s.token, s.directory, flush=True); time.sleep(600)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path("src").resolve())}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as owner:
        assert owner.stdout is not None
        token, directory = owner.stdout.readline().split()
        assert len(guard.members(token)) == 1
        owner.kill()
    assert wait_until(lambda: not guard.members(token) and not Path(directory).exists())


def test_ports_are_free_and_never_the_same() -> None:
    with Stage() as stage:
        given = [stage.port() for _ in range(50)]
    assert len(set(given)) == 50
    assert all(port in PORTS for port in given)


def test_labs_side_by_side_never_have_the_same_port() -> None:
    with Stage() as one, Stage() as other:
        given = one.port()
        other._ports = iter([given])
        with pytest.raises(EnvironmentLacks):
            other.port()
    with Stage() as later:
        later._ports = iter([given])
        assert later.port() == given


def test_a_program_that_is_not_there_is_said() -> None:
    with Stage() as stage, pytest.raises(EnvironmentLacks, match="does not start"):
        stage.spawn(["/nonexistent/haproxy"], "a.log")


def test_the_last_line_of_a_log() -> None:
    with Stage() as stage:
        stage.spawn([sys.executable, "-c", "print('one'); print('two')"], "a.log").wait()
        assert stage.tail("a.log") == "two"
