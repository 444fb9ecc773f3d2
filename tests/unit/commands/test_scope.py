"""Which processes a scope means: with real processes, and a cgroup tree of plain files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatrace.commands import _scope
from hatrace.commands._scope import members, nobody, settled
from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.kernel import preflight
from hatrace.lab.stage import wait_until
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.sockets.names import comm

GONE = str(2**22 - 1)
NONE: frozenset[int] = frozenset()

FAMILY = """
import os, sys, time
print(os.getpid(), flush=True)
if os.fork() == 0:
    print(os.getpid(), flush=True)
    if os.fork() == 0:
        print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def family() -> Iterator[frozenset[int]]:
    """A process, its child and its grandchild."""
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield frozenset(int(process.stdout.readline()) for _ in range(3))
        process.communicate(timeout=20)


def of(kind: ScopeKind, *values: str) -> Scope:
    return Scope(kind, values)


def test_a_pid_and_all_that_descends_from_it(family: frozenset[int]) -> None:
    assert members(of(ScopeKind.PID, str(min(family))), NONE) >= family
    assert members(of(ScopeKind.PID, GONE), NONE) == NONE
    assert members(of(ScopeKind.PID, GONE), frozenset({5})) == {5}, "its HAProxy's new workers"


def test_children_of_any_thread() -> None:
    """As a process manager's, or a program's that runs its health checks beside."""
    started: list[subprocess.Popen[bytes]] = []
    over = threading.Event()

    def start() -> None:
        started.append(subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"],
                                        stdin=subprocess.PIPE))  # fmt: skip
        over.wait()  # the children of a thread that has ended are another's

    thread = threading.Thread(target=start)
    thread.start()
    try:
        assert wait_until(lambda: bool(started))
        assert started[0].pid in members(of(ScopeKind.PID, str(os.getpid())), NONE)
    finally:
        over.set()
        thread.join()
        for one in started:
            one.communicate()


def test_a_name(family: frozenset[int]) -> None:
    name = Path(f"/proc/{min(family)}/comm").read_text().strip()
    assert members(of(ScopeKind.COMM, name), NONE) >= family
    assert members(of(ScopeKind.COMM, "no-such-process"), NONE) == NONE


def test_a_name_is_cut_as_the_kernel_cuts_it(tmp_path: Path) -> None:
    program = tmp_path / "a-name-of-twenty-one"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        # The kernel sets the name a moment after it has closed what execve() closes.
        assert wait_until(lambda: comm(process.pid) == "a-name-of-twent")
        found = members(of(ScopeKind.COMM, program.name), NONE)
        process.kill()
    assert found == {process.pid}


def test_haproxy_and_everybody() -> None:
    assert members(Scope(), frozenset({7, 8})) == {7, 8}
    assert members(of(ScopeKind.ALL), frozenset({7})) == NONE, "the kernel decides"


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree as cgroup v2 shows it."""
    for folder in ("", "system.slice", "system.slice/haproxy.service"):
        (tmp_path / "cgroup" / folder).mkdir(exist_ok=True)
        (tmp_path / "cgroup" / folder / "cgroup.procs").touch()
    (tmp_path / "cgroup/system.slice/haproxy.service/cgroup.procs").write_text(f"{os.getpid()}\n")
    monkeypatch.setattr(_scope, "cgroup_mount", lambda: tmp_path / "cgroup")
    return tmp_path / "cgroup"


@pytest.mark.parametrize(
    "given",
    [
        "{mount}/system.slice/haproxy.service",
        "{mount}/system.slice/../system.slice/haproxy.service/",
        "/system.slice/haproxy.service",
        "system.slice/haproxy.service",
    ],
)
def test_a_cgroup_by_path_or_from_the_mount_on(given: str, mount: Path) -> None:
    found = settled(of(ScopeKind.CGROUP, given.format(mount=mount)))
    assert found == of(ScopeKind.CGROUP, f"{mount}/system.slice/haproxy.service")
    assert members(found, NONE) == {os.getpid()}
    assert members(settled(of(ScopeKind.CGROUP, "/")), NONE) == {os.getpid()}, "and those below"


@pytest.mark.parametrize("given", ["", "/nosuch", "/tmp", "{mount}/..", "../..", "nosuch"])
def test_what_is_no_cgroup(given: str, mount: Path) -> None:
    with pytest.raises(UsageError) as caught:
        settled(of(ScopeKind.CGROUP, given.format(mount=mount)))
    assert str(mount) in caught.value.why
    assert caught.value.do


def test_without_cgroup_v2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_cgroup_mounts", lambda: iter(()))
    with pytest.raises(EnvironmentLacks, match="no cgroup v2 is mounted"):
        settled(of(ScopeKind.CGROUP, "/"))
    assert settled(Scope()) == Scope(), "the others do not ask for it"


def test_nobody_is_there() -> None:
    assert "no HAProxy runs" in nobody(Scope()).what
    assert "--all" in nobody(Scope()).do
    assert "comm nginx" in nobody(of(ScopeKind.COMM, "nginx")).what
