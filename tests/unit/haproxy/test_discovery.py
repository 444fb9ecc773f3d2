"""Discovery, with real processes that are called haproxy (fakes.py)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hatrace.haproxy import arguments, discovery, procfs
from hatrace.haproxy.discovery import NAME, Finder, _Found, _names, config_paths
from hatrace.model.topology import Kind, Process

from .fakes import eventually, running


def found(finder: Finder) -> dict[Kind, Process]:
    return {process.kind: process for process in finder.scan()}


def children(pid: int) -> list[int]:
    return [each for each in procfs.pids() if (s := procfs.stat(each)) and s.parent_pid == pid]


def test_a_standalone_process(tmp_path: Path) -> None:
    with running(tmp_path) as started:
        (process,) = Finder(pids=[started.pid]).scan()
    assert process.kind is Kind.STANDALONE
    assert (process.pid, process.parent_pid, process.comm) == (started.pid, os.getpid(), "haproxy")
    assert process.config_files == (str(tmp_path / "haproxy.cfg"),)
    assert process.root == "/" and process.container_pid is None and not process.stopped
    assert process.netns == os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116
    assert process.fd_used and process.fd_limit and process.fd_used < process.fd_limit
    assert 0 < time.monotonic_ns() - process.started_ns < 60_000_000_000


def test_a_master_and_its_worker_and_either_alone_leads_to_both(tmp_path: Path) -> None:
    with running(tmp_path, "-W", "-S", str(tmp_path / "m.sock")) as started:
        kinds = found(Finder(pids=[started.pid]))
        worker = kinds[Kind.WORKER]
        assert kinds[Kind.MASTER].pid == started.pid == worker.parent_pid
        assert set(found(Finder(pids=[worker.pid]))) == {Kind.MASTER, Kind.WORKER}
        assert started.pid in {process.pid for process in Finder().scan()}


def test_a_process_that_ends_is_gone_at_the_next_look(tmp_path: Path) -> None:
    finder = Finder()
    with running(tmp_path) as started:
        assert started.pid in {process.pid for process in finder.scan()}
    assert started.pid not in {process.pid for process in finder.scan()}


def test_a_zombie_is_no_process(tmp_path: Path) -> None:
    with running(tmp_path) as started:
        os.kill(started.pid, signal.SIGKILL)
        assert eventually(lambda: getattr(procfs.stat(started.pid), "state", "") == "Z")
        assert Finder(pids=[started.pid]).scan() == ()


def test_a_stopped_process_says_so(tmp_path: Path) -> None:
    finder = Finder()
    with running(tmp_path) as started:
        os.kill(started.pid, signal.SIGSTOP)
        pid = started.pid
        assert eventually(lambda: [p.stopped for p in finder.scan() if p.pid == pid] == [True])
        os.kill(started.pid, signal.SIGCONT)
        assert eventually(lambda: [p.stopped for p in finder.scan() if p.pid == pid] == [False])


def test_generations_of_standalone_processes(tmp_path: Path) -> None:
    """A later one names those it replaces after -sf."""
    with running(tmp_path) as first:
        time.sleep(2 / os.sysconf("SC_CLK_TCK"))  # a start is known by the tick
        with running(tmp_path, "-sf", str(first.pid)) as second:
            kinds = {p.pid: p.kind for p in Finder(pids=[first.pid, second.pid]).scan()}
    assert kinds == {first.pid: Kind.OLD_WORKER, second.pid: Kind.STANDALONE}


def test_who_was_replaced_stays_old_when_its_successor_is_gone(tmp_path: Path) -> None:
    """The third names the second only, as with `-sf $(cat pidfile)`."""
    finder, tick_s = Finder(), 1 / os.sysconf("SC_CLK_TCK")
    with running(tmp_path) as first:
        time.sleep(2 * tick_s)
        with running(tmp_path, "-sf", str(first.pid)) as second:
            time.sleep(2 * tick_s)
            with running(tmp_path, "-sf", str(second.pid)) as third:
                finder.scan()
                end(second)
                kinds = {p.pid: p.kind for p in finder.scan()}
    assert kinds[first.pid] is Kind.OLD_WORKER
    assert kinds[third.pid] is Kind.STANDALONE


def test_a_successor_that_has_served_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "LOADING_NS", 0)
    assert after_a_successor(tmp_path) is Kind.OLD_WORKER


def test_a_successor_that_ends_at_once_has_replaced_nobody(tmp_path: Path) -> None:
    """A bind that is taken: it gives up after two seconds, and the old one serves on."""
    assert after_a_successor(tmp_path) is Kind.STANDALONE


def after_a_successor(folder: Path) -> Kind:
    """What a process is once another, started with -sf, has come and gone."""
    with running(folder) as first:
        time.sleep(2 / os.sysconf("SC_CLK_TCK"))
        with running(folder, "-sf", str(first.pid)) as second:
            finder = Finder(pids=[first.pid, second.pid])
            finder.scan()
        (left,) = finder.scan()
    assert left.pid == first.pid
    return left.kind


def end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(20)


def test_other_names_have_to_be_given(tmp_path: Path) -> None:
    with running(tmp_path, name="lb-edge") as started:
        assert started.pid not in {p.pid for p in Finder().scan()}
        assert started.pid in {p.pid for p in Finder(names=["lb-edge"]).scan()}


@pytest.mark.parametrize("name", ["haproxy", "haproxy-2.9", "haproxy3.0", "haproxy-2.6.12-deb"])
def test_names_of_haproxy(name: str) -> None:
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["haproxy_exporter", "haproxy-ingress", "sh", "haproxyctl"])
def test_names_that_only_begin_so(name: str) -> None:
    assert not NAME.fullmatch(name)


def test_the_command_line_of_a_reloaded_worker() -> None:
    """As 2.6 really has it after a reload."""
    line = (
        "/usr/sbin/haproxy -sf 16607 16593 -x sockpair@4 -Ws -dZ -S /run/m,level,user"
        " -C /etc -f a.cfg -f /b -p /run/pid -L peer1 -- c.cfg"
    )
    given = arguments.parse(line.split())
    assert given.replaces == (16607, 16593)
    assert given.master and given.master_sockets == ("/run/m,level,user",)
    assert given.config == ("a.cfg", "/b", "c.cfg")
    assert given.local_peer == "peer1"
    assert set(given.switches) == {"-Ws", "-dZ"}
    assert config_paths(given, "/home") == ("/etc/a.cfg", "/b", "/etc/c.cfg")


def test_a_cut_command_line_is_read_as_far_as_it_goes() -> None:
    assert arguments.parse(["haproxy", "-f"]).config == ("",)
    assert arguments.parse([]).config == ()


def test_processes_that_are_not_there() -> None:
    gone = 2**22 + 1
    assert procfs.stat(gone) is None
    assert procfs.words(gone, "cmdline") == ()
    assert procfs.environment(gone) == {}
    assert procfs.fd_used(gone) is None and procfs.fd_limit(gone) is None
    assert procfs.namespace(gone, "net") is None
    assert procfs.socket_inodes(gone) is None and procfs.unix_listeners(gone) == {}


def test_absolute_links_of_another_root_stay_inside_it(tmp_path: Path) -> None:
    (tmp_path / "run/haproxy").mkdir(parents=True)
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "var/up").symlink_to("../../../run/./haproxy")
    (tmp_path / "loop").symlink_to("loop")
    root = str(tmp_path)
    assert procfs.inside(root, "/var/run/haproxy/a.sock") == f"{root}/run/haproxy/a.sock"
    assert procfs.inside(root, "/var/up/a.sock") == f"{root}/run/haproxy/a.sock"
    assert procfs.inside(root, "/loop/a") == f"{root}/loop/a"
    assert procfs.inside("/", "/var/run/a.sock") == "/var/run/a.sock"


def test_pids_of_another_container_are_others() -> None:
    old = in_container(812, "haproxy", inner=8, mount_ns=1)
    assert _names(in_container(900, "haproxy -sf 8", inner=9, mount_ns=1), old)
    assert not _names(in_container(900, "haproxy -sf 8", inner=9, mount_ns=2), old)
    assert not _names(in_container(900, "haproxy -sf 8", inner=None, mount_ns=1), old)


def in_container(pid: int, line: str, inner: int | None, mount_ns: int) -> _Found:
    words = tuple(line.split())
    stat = procfs.Stat(pid, "haproxy", "S", 1, pid)
    return _Found(stat, words, arguments.parse(words), inner, 7, mount_ns, "/", None)
