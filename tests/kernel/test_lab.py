"""Each scenario does what its text says, seen without hatrace: /proc, sockstat, HAProxy's words.

What hatrace makes of them is tested elsewhere; here it must not be what it reads.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hatrace.haproxy import parse
from hatrace.lab import builds, guard
from hatrace.lab.scenario import Running
from hatrace.lab.scenarios import SCENARIOS, drain_survivor_connecting
from hatrace.lab.stage import Stage, wait_until

CLOSE_WAIT, LISTEN, CLOSE = "CLOSE-WAIT", "LISTEN", "CLOSE"
SLOTS = 10


@contextmanager
def playing(name: str, binary: Path | None = None) -> Iterator[Running]:
    with Stage() as stage:
        yield SCENARIOS[name].play(stage, binary)
    assert guard.members(stage.token) == []


def socket_inodes(pid: int) -> set[int]:
    """Of the sockets that a process has open; none of one that has ended."""
    found: set[int] = set()
    try:
        entries = list(Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return found
    for entry in entries:
        try:
            match = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
        except FileNotFoundError:
            continue
        if match:
            found.add(int(match[1]))
    return found


def tcp_states(pid: int) -> Counter[str]:
    """What ss shows of a process's TCP sockets, by state; `CLOSE`: open, but in no table."""
    rows = ss("-tane")
    inodes = {int(m[1]): row.split()[0] for row in rows if (m := re.search(r" ino:(\d+)", row))}
    unix = {int(word) for row in ss("-xa") for word in row.split() if word.isdecimal()}
    return Counter(inodes.get(inode, CLOSE) for inode in socket_inodes(pid) - unix)


def ss(*options: str) -> list[str]:
    done = subprocess.run(["ss", "-H", *options], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def master_connections(running: Running) -> list[int]:
    """The peers' inodes of what the master accepted; 0: the client has left."""
    name = str(running.haproxy.master)
    rows = [row.split() for row in ss("-xa") if name in row]
    return [int(row[7]) for row in rows if row[1] == "ESTAB"]


def refused(path: Path) -> bool:
    """Whether a client that does not wait gets `Resource temporarily unavailable`."""
    with socket.socket(socket.AF_UNIX) as link:
        link.setblocking(False)
        return link.connect_ex(str(path)) == 11


def checks_passed(running: Running) -> int:
    """How many servers HAProxy says have passed their last check."""
    return len(re.findall("L[47]OK,", running.haproxy.ask("show stat")))


def listener_queue(running: Running) -> int:
    """How many clients wait to be accepted by the master."""
    row = next(row.split() for row in ss("-xl") if str(running.haproxy.master) in row)
    return int(row[2])


def grows(value: Callable[[], int], by: int, seconds: float = 30) -> bool:
    start = value()
    return wait_until(lambda: value() >= start + by, seconds)


def check_leak_grows(binary: Path | None) -> None:
    with playing("check-leak", binary) as running:
        worker, port = running.haproxy.worker(), running.facts["check"]
        assert grows(lambda: tcp_states(worker)[CLOSE_WAIT], 16)
        assert (
            sum(row.split()[3].endswith(f":{port}") for row in ss("-tan", "state", "close-wait"))
            >= 16
        )
        assert wait_until(lambda: checks_passed(running) == 8), "the checks themselves pass"


def test_check_leak() -> None:
    check_leak_grows(None)


@pytest.mark.parametrize("suite", list(builds.SUITES))
def test_check_leak_on_every_haproxy_that_is_unpacked(suite: str) -> None:
    path = builds.available().get(suite)
    if path is None and builds.SUITES[suite] == builds.version(builds.system())[:3]:
        path = builds.system()
    if path is None:
        path = builds.fetch(suite)
    check_leak_grows(path)


def test_stream_leak_leaves_close_wait_in_front_and_a_ghost_behind() -> None:
    with playing("stream-leak") as running:
        worker, front = running.haproxy.worker(), running.facts["front"]
        assert grows(lambda: tcp_states(worker)[CLOSE_WAIT], 6)
        assert grows(lambda: tcp_states(worker)[CLOSE], 4), "the back sides are in no socket table"
        rows = [row for row in ss("-tan", "state", "close-wait") if f":{front} " in row]
        assert len(rows) >= 6, "the front sides are"

        def even() -> bool:
            states = tcp_states(worker)
            return abs(states[CLOSE] - states[CLOSE_WAIT]) <= 2

        assert wait_until(even), "as many in front as behind"


def test_stream_leak_does_not_leak_checks() -> None:
    with playing("stream-leak") as running:
        worker = running.haproxy.worker()
        assert grows(lambda: tcp_states(worker)[CLOSE], 6)
        assert tcp_states(worker)["ESTAB"] <= 4, "two checks and what is on its way"


def test_master_socket_clients_hold_all_slots_until_others_are_refused() -> None:
    with playing("master-socket-clients") as running:
        master, holder = running.haproxy.master, running.facts["holder"]
        assert master is not None
        assert isinstance(holder, int)
        assert wait_until(lambda: len(master_connections(running)) == SLOTS, 40)
        assert set(master_connections(running)) <= socket_inodes(holder)
        assert wait_until(lambda: listener_queue(running) == SLOTS + 1, 40)
        assert refused(master)
        assert len(master_connections(running)) == SLOTS
        assert running.haproxy.worker(), "the worker's own socket answers meanwhile"


def test_master_socket_server_keeps_what_clients_left() -> None:
    with playing("master-socket-server") as running:
        assert wait_until(lambda: len(master_connections(running)) == SLOTS, 40)
        assert set(master_connections(running)) == {0}
        assert wait_until(lambda: listener_queue(running) >= 2, 40)
        assert running.haproxy.worker()


def test_master_socket_worker_recovers_when_the_worker_runs_again() -> None:
    with playing("master-socket-worker") as running:
        worker = running.facts["worker"]
        assert isinstance(worker, int)
        assert Path(f"/proc/{worker}/stat").read_text().split()[2] == "T"
        assert wait_until(lambda: len(master_connections(running)) == SLOTS, 40)
        assert wait_until(lambda: listener_queue(running) >= 2, 40)
        assert set(master_connections(running)) == {0}
        os.kill(worker, signal.SIGCONT)
        assert wait_until(lambda: len(master_connections(running)) <= 1, 40)


def listeners(port: object) -> list[str]:
    """Whose listening sockets a port has: `users:((...))` of ss."""
    return [row.split()[5] for row in ss("-tlnp", f"sport = :{port}")]


def connections(pid: int, port: object) -> int:
    """How many a process has open to a port."""
    return sum(f"pid={pid}," in row for row in ss("-tnp", f"dport = :{port}"))


def test_drain_survivor_goes_on_in_the_old_worker() -> None:
    with playing("drain-survivor") as running:
        old, removed = running.facts["old"], running.facts["removed"]
        assert isinstance(old, int)
        assert wait_until(lambda: running.haproxy.worker() not in (0, old))
        assert wait_until(lambda: "removed" not in running.haproxy.ask("show servers state"))
        assert connections(old, removed) == running.facts["sessions"]
        assert "fe=fe " not in running.haproxy.ask("show sess"), "the command line shows none"
        assert grows(lambda: received(old, removed), 100), "they go on talking"


def test_drain_survivor_before_is_known_to_the_old_worker_alone() -> None:
    with playing("drain-survivor-before") as running:
        old, removed = running.facts["old"], running.facts["removed"]
        assert isinstance(old, int)
        assert running.haproxy.worker() not in (0, old)
        assert "removed" not in running.haproxy.ask("show servers state")
        assert str(removed) not in running.haproxy.config.read_text()
        assert connections(old, removed) == running.facts["sessions"]


def received(pid: int, port: object) -> int:
    rows = subprocess.run(
        ["ss", "-Htnpi", f"dport = :{port}"], capture_output=True, text=True, check=True
    ).stdout
    assert f"pid={pid}," in rows
    return sum(map(int, re.findall(r"bytes_received:(\d+)", rows)))


def test_half_closed_sessions_survive_the_shutdown() -> None:
    with playing("drain-survivor-half-closed") as running:
        worker = running.haproxy.worker()
        assert wait_until(lambda: "MAINT" in running.haproxy.ask("show stat"))
        assert connections(worker, running.facts["stream"]) == running.facts["sessions"]
        assert grows(lambda: received(worker, running.facts["stream"]), 4096)


def test_sessions_that_wait_for_their_server_survive_the_shutdown() -> None:
    with playing("drain-survivor-connecting") as running:
        stuck = running.facts["stuck"]
        assert isinstance(stuck, int)
        assert wait_until(lambda: "MAINT" in running.haproxy.ask("show stat"))
        assert drain_survivor_connecting.connecting(stuck) == running.facts["sessions"]


def test_the_spoe_agent_is_one_for_haproxy() -> None:
    """By HAProxy's own check of its protocol."""
    with playing("healthy-spoe") as running:
        server = "agents/answers"
        assert wait_until(
            lambda: parse.stat(running.haproxy.ask("show stat"))[server].check_status == "L7OK"
        )


def test_stale_workers_stay_with_a_session_each() -> None:
    with playing("stale-worker") as running:
        old = running.facts["old"]
        assert isinstance(old, list)
        assert len(old) == 3
        assert all(connections(pid, running.facts["service"]) >= 1 for pid in old)
        assert running.haproxy.worker() not in old


def test_stale_bind_stopped_swallows_connections() -> None:
    with playing("stale-bind-stopped") as running:
        old, new = running.facts["old"], running.facts["new"]
        assert [f"pid={old}," in users for users in listeners(running.facts["yesterday"])] == [True]
        today = " ".join(listeners(running.facts["today"]))
        assert f"pid={old}," in today
        assert f"pid={new}," in today
        assert grows(lambda: waiting(running.facts["today"]), 3)


def waiting(port: object) -> int:
    """Connections in the accept queues of a port."""
    return sum(int(row.split()[1]) for row in ss("-tln", f"sport = :{port}"))


def test_stale_bind_generations_listen_side_by_side() -> None:
    with playing("stale-bind-generations") as running:
        old, new = running.facts["old"], running.facts["new"]
        assert [f"pid={old}," in users for users in listeners(running.facts["yesterday"])] == [True]
        today = " ".join(listeners(running.facts["today"]))
        assert f"pid={old}," in today
        assert f"pid={new}," in today


def test_stale_bind_ephemeral_fails_to_reload() -> None:
    with playing("stale-bind-ephemeral") as running:
        worker, new = running.facts["worker"], running.facts["new"]
        words = ["nsenter", "-t", str(worker), "-n", "ss", "-Htanp", f"sport = :{new}"]
        rows = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        (row,) = rows.splitlines()
        assert row.startswith("ESTAB")
        assert f"pid={worker}," in row
        assert f"127.0.0.1:{new}" in running.haproxy.config.read_text()
        assert running.haproxy.worker() == worker


def test_unreleased_accept_is_a_ghost_per_check_that_passed() -> None:
    with playing("unreleased-accept") as running:
        application = running.facts["application"]
        assert isinstance(application, int)
        assert grows(lambda: tcp_states(application)[CLOSE], 4)
        assert "L7OK" in running.haproxy.ask("show stat")


def test_not_accepting_fills_its_queue() -> None:
    with playing("not-accepting") as running:
        backlog = running.facts["backlog"]
        assert isinstance(backlog, int)
        assert wait_until(lambda: waiting(running.facts["service"]) == backlog + 1, 40)
        assert wait_until(
            lambda: re.search("L[47]TOUT", running.haproxy.ask("show stat")) is not None
        )


def test_port_pressure_takes_all_ports_of_a_network_of_its_own() -> None:
    ours = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    with playing("port-pressure") as running:
        pid, port = running.haproxy.worker(), running.facts["service"]
        words = ["nsenter", "-t", str(pid), "-n", "ss", "-Htn", f"dport = :{port}"]

        def taken() -> int:
            rows = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            return len({row.split()[3] for row in rows.splitlines()})

        assert wait_until(lambda: taken() == running.facts["ports"], 60)
        assert wait_until(lambda: "L4CON" in running.haproxy.ask("show stat"), 60)
    assert Path("/proc/sys/net/ipv4/ip_local_port_range").read_text() == ours


def test_port_pressure_time_wait_is_held_by_nobody() -> None:
    with playing("port-pressure-time-wait") as running:
        pid, port = running.haproxy.worker(), running.facts["service"]
        see = ["ss", "-Htnp", "state", "time-wait", f"dport = :{port}"]

        def waiting_ports() -> int:
            words = ["nsenter", "-t", str(pid), "-n", *see]
            rows = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            assert "users:" not in rows
            return len(rows.splitlines())

        assert wait_until(lambda: waiting_ports() >= 200, 60)


def test_orphan_storm_is_the_kernels_own_count() -> None:
    def orphans() -> int:
        row = next(r for r in Path("/proc/net/sockstat").read_text().splitlines() if "TCP:" in r)
        words = row.split()
        return int(words[words.index("orphan") + 1])

    with playing("orphan-storm"):
        assert grows(orphans, 500)
    assert wait_until(lambda: orphans() < 100), "they end with their peers"


@pytest.mark.parametrize("name", ["healthy-idle", "healthy-checks", "healthy-reloads"])
def test_healthy_look_alikes_leak_nothing(name: str) -> None:
    with playing(name) as running:
        time.sleep(8)

        def few() -> bool:
            states = tcp_states(running.haproxy.worker())
            return states[CLOSE_WAIT] + states[CLOSE] <= 5

        assert wait_until(few), tcp_states(running.haproxy.worker())
        assert wait_until(lambda: checks_passed(running) >= 2)


def test_healthy_does_not_leak_over_three_reloads() -> None:
    with playing("healthy") as running:
        workers = {running.haproxy.worker()}

        def reloads() -> int:
            workers.add(running.haproxy.worker())
            return len(workers - {0}) - 1

        assert wait_until(lambda: reloads() >= 3, 60)
        worker = running.haproxy.worker()
        assert wait_until(lambda: tcp_states(worker)[CLOSE_WAIT] < 10)
        assert wait_until(lambda: tcp_states(worker)[CLOSE] < 10)
        assert len(master_connections(running)) <= 2


@pytest.mark.parametrize("result", ["L4CON", "L7STS", "L7TOUT", "L7OK", "L4OK", "up"])
def test_healthy_has_checks_of_every_outcome(healthy: Running, result: str) -> None:
    assert wait_until(lambda: result in healthy.haproxy.ask("show stat"))


@pytest.fixture(scope="module")
def healthy() -> Iterator[Running]:
    with playing("healthy") as running:
        yield running
