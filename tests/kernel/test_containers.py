"""HAProxy in namespaces and a cgroup of its own, and hatrace outside of them and inside.

Pids are told as the one who runs hatrace sees them: the host's outside, the container's inside.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hatrace.capture.reader import read
from hatrace.haproxy.procfs import inner_pid, namespace
from hatrace.model.event import Processes
from hatrace.sockets.counters import host_counters
from hatrace.sockets.host_facts import host_facts
from tests.kernel.boxed import FRONT, ORIGIN, Boxed, boxed
from tests.kernel.cgroups import new_cgroup
from tests.kernel.running import Hatrace, Row, run

LOOPBACK = "ip link set lo up"
PORTS = 40000, 40999
SET_PORTS = "echo {} {} >/proc/sys/net/ipv4/ip_local_port_range".format(*PORTS)


@pytest.fixture(scope="module")
def cgroup() -> Iterator[Path]:
    with new_cgroup("box") as folder:
        yield folder


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory, cgroup: Path) -> Iterator[Boxed]:
    """As engines make them: pid, network and mount namespaces, a cgroup, files of its own."""
    join = ["sh", "-c", f'echo 0 >{cgroup}/cgroup.procs && exec "$@"', "sh"]
    before = [*join, "unshare", "-pnm", "--fork", "--mount-proc"]
    prepare = f"{LOOPBACK} && {SET_PORTS}"
    with boxed(tmp_path_factory.mktemp("container"), before, prepare, hidden=True) as box:
        yield box


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxed]:
    """In a network namespace made by `ip netns`; pids and files are the host's."""
    name = f"hatrace-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        before = ["ip", "netns", "exec", name]
        with boxed(tmp_path_factory.mktemp("netns"), before, LOOPBACK) as box:
            yield box
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def recorded(
    box: Boxed, capture: Path, *words: str, before: Sequence[str] = ()
) -> tuple[list[int], list[Row]]:
    """Record while requests go through; the clients' ports in turn, and the troubles told."""
    command = ["record", "--json", "-d", "4s", "-o", str(capture), *words]
    with Hatrace(*command, before=before) as hatrace:
        hatrace.started()
        ports = []
        while hatrace.child.poll() is None:
            ports.append(box.request())
            time.sleep(0.1)
        ended = hatrace.end()
    assert ended.errors == ""
    return ports, ended.troubles


def rows(box: Boxed, capture: Path) -> list[Row]:
    """The flows in its network namespace."""
    netns = namespace(box.worker, "net")
    lines = run("export", str(capture)).out.splitlines()
    return [row for row in map(json.loads, lines) if row["netns"] == netns]


def assert_listeners(box: Boxed, capture: Path, pid: int) -> None:
    """Both, by the pid which the worker has for whoever asked."""
    found = {(row["pid"], row["laddr"]) for row in rows(box, capture) if "listener" in row["flags"]}
    assert found == {(pid, f"127.0.0.1:{port}") for port in (FRONT, ORIGIN)}


def assert_flows_and_names(box: Boxed, capture: Path, ports: list[int]) -> None:
    """Each request's flows with their owner, and what HAProxy calls them.

    From the first look at its fds on, until the end: what it is asked before that, it may have
    accepted unseen.
    """
    ended = [row for row in rows(box, capture) if row["seen"] == "ended"]
    assert {row["pid"] for row in ended} == {box.worker}
    clients = [f"127.0.0.1:{port}" for port in ports if ports.count(port) == 1]  # of 500
    front = [row["raddr"] for row in ended if row["laddr"] == f"127.0.0.1:{FRONT}"]
    front = [client for client in front if client in clients]
    seen = [client in front for client in clients]
    first, last = seen.index(True), len(seen) - seen[::-1].index(True)
    missed = [at for at in range(first, last) if not seen[at]]
    assert (missed, len(front)) == ([], last - first) and len(front) >= 3, (missed, first, last)
    targets = json.loads(run("report", "--json", str(capture)).out)["targets"]
    named = {(row["role"], row["name"]) for row in targets}
    assert named >= {("client", "fe"), ("server", "app/s1")}


def processes(capture: Path) -> dict[int, int | None]:
    """Pid → its pid as it sees itself, where that differs."""
    events = (event for event in read(capture).events if isinstance(event, Processes))
    return {p.pid: p.container_pid for event in events for p in event.processes}


@pytest.mark.parametrize("scope", ["haproxy", "pid", "cgroup"])
def test_a_container_seen_from_the_host(
    scope: str, container: Boxed, cgroup: Path, tmp_path: Path
) -> None:
    """The host's pids; the container's sockets, files and names."""
    capture = tmp_path / "x.hatrace"
    pid = str(container.master)
    words = {"haproxy": [], "pid": ["--pid", pid], "cgroup": ["--cgroup", f"/{cgroup.name}"]}
    ports, troubles = recorded(container, capture, *words[scope])
    assert_listeners(container, capture, container.worker)
    assert_flows_and_names(container, capture, ports)
    ours = [f"pid {container.master}", f"pid {container.worker}"]
    assert [each for each in troubles if each["subject"].split(":")[0] in ours] == []
    seen = processes(capture)
    assert seen[container.master] == inner_pid(container.master) == 1
    assert seen[container.worker] == inner_pid(container.worker) != container.worker


def test_a_container_seen_from_the_host_without_bpf(container: Boxed, tmp_path: Path) -> None:
    """netlink asks in the container's network namespace."""
    capture = tmp_path / "x.hatrace"
    scope = ["--pid", str(container.master), "--rung", "netlink"]
    _, troubles = recorded(container, capture, *scope)
    assert troubles == []
    assert_listeners(container, capture, container.worker)


def test_a_container_seen_from_inside(container: Boxed, tmp_path: Path) -> None:
    """Its own pids.  BPF, which would tell the host's, is refused with that reason."""
    capture = tmp_path / "x.hatrace"
    enter = ["nsenter", "-t", str(container.worker), "-p", "-m", "-n"]
    _, troubles = recorded(container, capture, before=enter)
    assert [each["source"] for each in troubles] == ["kernel"]
    assert "pid namespace" in troubles[0]["why"] and "--pid=host" in troubles[0]["do"]
    worker = inner_pid(container.worker)
    assert worker is not None
    assert processes(capture) == {1: None, worker: None}
    assert_listeners(container, capture, worker)


def test_the_limits_are_those_of_its_network(container: Boxed) -> None:
    facts = host_facts(container.worker)
    assert (facts.port_low, facts.port_high) == PORTS
    assert {FRONT, ORIGIN} <= facts.listeners.keys()
    counters = host_counters(container.worker)
    assert (counters.port_low, counters.port_high) == PORTS
    ours = host_facts()
    assert (ours.port_low, ours.port_high) != PORTS
    assert ORIGIN not in ours.listeners


@pytest.mark.parametrize("rung", ["best", "netlink"])
def test_another_network_namespace(rung: str, elsewhere: Boxed, tmp_path: Path) -> None:
    capture = tmp_path / "x.hatrace"
    words = ["--rung", rung] if rung == "netlink" else []
    ports, troubles = recorded(elsewhere, capture, "--pid", str(elsewhere.master), *words)
    assert troubles == []
    assert_listeners(elsewhere, capture, elsewhere.worker)
    if rung == "best":
        assert_flows_and_names(elsewhere, capture, ports)
    assert processes(capture) == {elsewhere.master: None, elsewhere.worker: None}
