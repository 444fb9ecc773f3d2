"""Scopes, asked of /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.sockets.members import members, with_children
from hatrace.sockets.names import comm

ME = os.getpid()


def test_scopes() -> None:
    assert members(Scope(ScopeKind.PID, ("12", str(ME)))) == {12, ME}
    assert ME in members(Scope(ScopeKind.ALL))
    assert ME in members(Scope(ScopeKind.COMM, (comm(ME),)))
    assert ME not in members(Scope(ScopeKind.COMM, ("no-such-name",)))
    assert ME not in members(Scope(ScopeKind.HAPROXY))


def test_a_cgroup_and_those_below(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("1\n2\n")
    (tmp_path / "below" / "deeper").mkdir(parents=True)
    (tmp_path / "below" / "deeper" / "cgroup.procs").write_text("3\n")
    assert members(Scope(ScopeKind.CGROUP, (str(tmp_path),))) == {1, 2, 3}
    assert members(Scope(ScopeKind.CGROUP, (str(tmp_path / "gone"),))) == set()


def test_cgroups_that_come_and_go_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("1\n")
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            for change in (os.mkdir, os.rmdir):
                for number in range(20):
                    change(f"{tmp_path}/{number}")

    other = threading.Thread(target=churn)
    other.start()
    try:
        for _ in range(500):
            assert members(Scope(ScopeKind.CGROUP, (str(tmp_path),))) == {1}
    finally:
        done.set()
        other.join()


def test_children_belong_to_their_parents() -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        assert child.pid in with_children([ME])
        assert with_children([child.pid]) == {child.pid}
        child.communicate()
