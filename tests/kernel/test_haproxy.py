"""hatrace.haproxy with real HAProxy processes: the system's, and other suites' where unpacked
(`python -m hatrace.lab.builds bullseye trixie forky`)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from hatrace.haproxy import parse
from hatrace.haproxy.questions import Rhythm
from hatrace.haproxy.runtime import Client
from hatrace.haproxy.sampler import Sampler
from hatrace.lab import builds
from hatrace.model.event import (
    CheckResult,
    Configured,
    Descriptors,
    Event,
    Info,
    Processes,
    Servers,
    Streams,
    Trouble,
)
from hatrace.model.topology import CommandSocket, Kind, Process

pytestmark = pytest.mark.kernel

FRONT, TCP, HTTP, HANG = 22100, 22101, 22102, 22103
QUICK = Rhythm(scan_s=0.1, processes_s=0.5, info_s=0.5, servers_s=0.5)
CONFIG = f"""\
global
    hard-stop-after 1m
    {{stats}}
defaults
    mode tcp
    timeout connect 2s
    timeout client 1m
    timeout server 1m
    timeout check 6s
frontend fe
    bind 127.0.0.1:{FRONT}
    default_backend be
backend be
    server good 127.0.0.1:{TCP} check inter 300ms
    server other 127.0.0.1:{TCP} check port {HTTP} inter 300ms backup
backend hung
    option tcp-check
    tcp-check expect string never
    server mute 127.0.0.1:{HANG} check inter 500ms
"""
OTHERS = {suite: path for suite, path in builds.available().items() if suite != "bookworm"}
BINARIES = {"system": None, **OTHERS}
EventT = TypeVar("EventT", bound=Event)


def eventually(what: Callable[[], object], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(what())


@pytest.fixture(scope="module", autouse=True)
def peers() -> Iterator[None]:
    """What HAProxy connects to: two that echo and one that never says a word."""

    def echo(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            while data := peer.recv(4096):
                peer.sendall(data)

    held: list[socket.socket] = []

    def accept(listener: socket.socket, mute: bool) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                if mute:
                    held.append(peer)
                else:
                    threading.Thread(target=echo, args=(peer,), daemon=True).start()

    listeners = [socket.create_server(("127.0.0.1", port)) for port in (TCP, HTTP, HANG)]
    for listener in listeners:
        mute = listener.getsockname()[1] == HANG
        threading.Thread(target=accept, args=(listener, mute), daemon=True).start()
    yield
    for each in (*listeners, *held):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


class HAProxy:
    """A real one, in master-worker mode."""

    def __init__(self, binary: Path, folder: Path, stats: bool = True) -> None:
        self.folder = folder
        self.stats, self.master = folder / "stats.sock", folder / "master.sock"
        line = f"stats socket {self.stats} mode 600 level admin" if stats else ""
        (folder / "haproxy.cfg").write_text(CONFIG.format(stats=line))
        command = [binary, "-W", "-S", str(self.master), "-f", "haproxy.cfg"]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        assert eventually(lambda: "workers" in self.ask_master("show proc"))
        assert eventually(self.listens), (folder / "log").read_text()

    def listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", FRONT)):
            return True
        return False

    def ask(self, command: str) -> str:
        return Client(CommandSocket(str(self.stats), False, 0)).ask(command).text

    def ask_master(self, command: str) -> str:
        where = CommandSocket(str(self.master), True, self.process.pid)
        with contextlib.suppress(Exception):
            return Client(where, guard=lambda _: None).ask(command).text
        return ""

    def reload(self) -> None:
        os.kill(self.process.pid, signal.SIGUSR2)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@contextlib.contextmanager
def running(binary: Path | None, folder: Path, stats: bool = True) -> Iterator[HAProxy]:
    started = HAProxy(binary or builds.system(), folder, stats)
    try:
        yield started
    finally:
        started.end()


class Watched:
    def __init__(self, sampler: Sampler) -> None:
        self.sampler, self.events = sampler, list[Event]()

    def all(self, kind: type[EventT]) -> list[EventT]:
        self.events += self.sampler.drain()
        return [event for event in self.events if isinstance(event, kind)]

    def processes(self) -> dict[int, Process]:
        latest = self.all(Processes)[-1:]
        return {each.pid: each for event in latest for each in event.processes}

    def pid(self, kind: Kind) -> int:
        return next((p.pid for p in self.processes().values() if p.kind is kind), 0)

    def until(self, what: Callable[[], object]) -> None:
        assert eventually(what), self.events[-30:]


@contextlib.contextmanager
def sampling(haproxy: HAProxy, check_events: bool = False) -> Iterator[Watched]:
    sampler = Sampler(
        [haproxy.process.pid],
        lambda _: None,
        check_events=check_events,
        state_dir=haproxy.folder / "run",
        rhythm=QUICK,
    )
    sampler.start()
    try:
        yield Watched(sampler)
    finally:
        sampler.stop()


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> Path | None:
    return BINARIES[request.param]


@contextlib.contextmanager
def session() -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", FRONT)) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        yield client


def trace_of(answer: str) -> str | None:
    return parse.trace_state(answer, "check")


def test_a_worker_and_a_reload_with_a_session(binary: Path | None, tmp_path: Path) -> None:
    version = builds.version(binary or builds.system())
    with running(binary, tmp_path) as haproxy, sampling(haproxy) as seen:
        seen.until(lambda: seen.all(Servers))
        seen.until(lambda: seen.processes()[haproxy.process.pid].reloads == 0)
        first = seen.pid(Kind.WORKER)
        assert seen.sampler.pids() == {haproxy.process.pid, first}
        assert {each.version for each in seen.processes().values()} == {version}
        assert seen.all(Configured)[0].hard_stop_after_ms == 60_000
        servers = {server.label: server for server in seen.all(Servers)[-1].servers}
        assert set(servers) == {"be/good", "be/other", "hung/mute"}
        assert servers["be/other"].check_port == HTTP and servers["be/other"].port == TCP
        assert servers["be/other"].settings.inter_ms == 300
        sockets = {each.master: each for each in seen.sampler.command_sockets()}
        assert sockets[True].path == str(haproxy.master) and sockets[True].inode
        assert sockets[False].path == str(haproxy.stats) and sockets[False].inode

        with session():
            seen.sampler.confirm(first)
            seen.until(lambda: seen.all(Descriptors))
            (stream,) = seen.all(Streams)[0].streams
            assert (stream.backend, stream.server) == ("be", "good")
            kinds = {each.fd: each for each in seen.all(Descriptors)[0].descriptors}
            assert stream.front_fd is not None and kinds[stream.front_fd].kind == "client"
            assert stream.back_fd is not None and kinds[stream.back_fd].kind == "server"
            hung = [each for each in kinds.values() if each.server == "hung/mute"]
            assert [each.kind for each in hung] == ["check"]
            for fd in (stream.front_fd, stream.back_fd, hung[0].fd):
                assert str(Path(f"/proc/{first}/fd/{fd}").readlink()).startswith("socket:")

            haproxy.reload()
            seen.until(lambda: seen.pid(Kind.OLD_WORKER) == first)
            seen.until(lambda: (w := seen.pid(Kind.WORKER)) and w != first)
            second = seen.pid(Kind.WORKER)
            seen.until(lambda: seen.processes()[first].reloads == 1)
            seen.until(lambda: [e for e in seen.all(Servers) if e.pid == second])
            before = len(seen.all(Streams))
            seen.sampler.confirm(first)
            seen.until(lambda: len(seen.all(Streams)) > before)
            assert seen.all(Streams)[-1].pid == first
            assert [each.server for each in seen.all(Streams)[-1].streams] == ["good"]
            old = next(e for e in seen.all(Info) if e.pid == first and e.values["Stopping"] == "1")
            assert old.values["Pid"] == str(first)
        seen.until(lambda: first not in seen.sampler.pids())
        assert [each for each in seen.all(Trouble) if not each.over] == []


def test_an_old_worker_is_asked_for_its_servers_once(binary: Path | None, tmp_path: Path) -> None:
    """It became one before hatrace came, and today's configuration lacks a server of its own."""
    with running(binary, tmp_path) as haproxy, session():
        config = haproxy.folder / "haproxy.cfg"
        gone = [line for line in config.read_text().splitlines() if "server other" in line]
        config.write_text(config.read_text().replace(gone[0], ""))
        haproxy.reload()
        with sampling(haproxy) as seen:
            seen.until(lambda: seen.pid(Kind.OLD_WORKER))
            old = seen.pid(Kind.OLD_WORKER)
            seen.until(lambda: [e for e in seen.all(Servers) if e.pid == old])
            seen.until(lambda: len([e for e in seen.all(Servers) if e.pid != old]) > 3)
        (said,) = [e for e in seen.all(Servers) if e.pid == old]
        assert "be/other" in {server.label for server in said.servers}
        now = next(e for e in reversed(seen.all(Servers)) if e.pid != old)
        assert "be/other" not in {server.label for server in now.servers}


def test_a_reload_that_fails_is_counted_and_its_binds_are_known(
    binary: Path | None, tmp_path: Path
) -> None:
    with running(binary, tmp_path) as haproxy, socket.create_server(("127.0.0.1", 0)) as foreign:
        time.sleep(3)  # a file written within two seconds of the start may be what was read
        port = foreign.getsockname()[1]
        config = haproxy.folder / "haproxy.cfg"
        more = f"frontend more\n    mode tcp\n    bind 127.0.0.1:{port}\n    default_backend be\n"
        config.write_text(config.read_text() + more)
        with sampling(haproxy) as seen:
            worker = seen.pid(Kind.WORKER)
            seen.until(lambda: seen.sampler.wanted_binds())
            assert port in {bind.port for bind in seen.sampler.wanted_binds()[worker]}
            if builds.version(binary or builds.system()).startswith("2.2"):
                return  # its master does not say how its reloads ended
            os.kill(haproxy.process.pid, signal.SIGUSR2)
            seen.until(lambda: seen.processes()[haproxy.process.pid].failed_reloads == 1)
            assert seen.pid(Kind.WORKER) == worker


def test_no_slot_of_the_master_stays_taken(binary: Path | None, tmp_path: Path) -> None:
    with running(binary, tmp_path, stats=False) as haproxy:
        with sampling(haproxy) as seen:
            seen.until(lambda: len(seen.all(Servers)) > 3)

        def connections() -> int:
            lines = Path("/proc/net/unix").read_text().splitlines()
            return sum(1 for line in lines if str(haproxy.master) in line) - 1

        assert eventually(lambda: connections() == 0)


def test_a_stopped_worker_costs_its_master_nothing(binary: Path | None, tmp_path: Path) -> None:
    with running(binary, tmp_path, stats=False) as haproxy, sampling(haproxy) as seen:
        seen.until(lambda: seen.all(Info))
        worker = seen.pid(Kind.WORKER)
        os.kill(worker, signal.SIGSTOP)
        try:
            seen.until(lambda: seen.processes()[worker].stopped)
            seen.until(lambda: [e for e in seen.all(Trouble) if e.subject == f"pid {worker}"])
            time.sleep(2)
            assert "worker" in haproxy.ask_master("show proc")
        finally:
            os.kill(worker, signal.SIGCONT)
        seen.until(lambda: [e for e in seen.all(Trouble) if e.over])


def test_a_standalone_process_in_a_chroot(tmp_path: Path) -> None:
    """It opens its files and sockets before it enters the chroot: they lie outside."""
    (tmp_path / "jail").mkdir()
    stats = f"stats socket {tmp_path}/stats.sock level admin"
    text = CONFIG.format(stats=f"{stats}\n    chroot {tmp_path}/jail")
    (tmp_path / "haproxy.cfg").write_text(text)
    command = [builds.system(), "-db", "-f", "haproxy.cfg"]
    environment = {**os.environ, "PWD": str(tmp_path)}
    started = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, env=environment)
    try:
        pid = started.pid
        jail = str(tmp_path / "jail")
        assert eventually(lambda: str(Path(f"/proc/{pid}/root").readlink()) == jail)
        sampler = Sampler([pid], state_dir=tmp_path / "run", rhythm=QUICK)
        sampler.start()
        seen = Watched(sampler)
        seen.until(lambda: seen.all(Servers))
        sampler.stop()
        (process,) = seen.processes().values()
        assert (process.kind, process.root) == (Kind.STANDALONE, "/")
        assert len(seen.all(Configured)) == 1
    finally:
        started.terminate()
        started.wait(30)


def test_haproxy_is_killed_while_traced(tmp_path: Path) -> None:
    with running(None, tmp_path) as haproxy, sampling(haproxy) as seen:
        seen.until(lambda: seen.all(Servers))
        os.kill(haproxy.process.pid, signal.SIGKILL)
        seen.until(lambda: seen.sampler.pids() == frozenset())
        trouble = next(e for e in seen.all(Trouble) if e.subject == "processes")
        assert "while traced" in trouble.why
        assert seen.all(Servers), "what was gathered is kept"


def test_the_feed_of_checks_and_its_end(binary: Path | None, tmp_path: Path) -> None:
    with running(binary, tmp_path) as haproxy:
        has_it = trace_of(haproxy.ask("trace")) is not None
        with sampling(haproxy, check_events=True) as seen:
            if not has_it:
                seen.until(lambda: [e for e in seen.all(Trouble) if e.source == "check-events"])
                return
            ends = "health-check complete"
            seen.until(
                lambda: (
                    {e.server for e in seen.all(CheckResult) if e.text.startswith(ends)}
                    >= {"be/good", "be/other"}
                )
            )
            assert trace_of(haproxy.ask("trace")) == "R"
            first = seen.pid(Kind.WORKER)
            with session():
                haproxy.reload()
                seen.until(lambda: (w := seen.pid(Kind.WORKER)) and w != first)
                second = seen.pid(Kind.WORKER)
                seen.until(lambda: [e for e in seen.all(CheckResult) if e.pid == second])
                assert eventually(lambda: trace_of(haproxy.ask_master(f"@!{first} trace")) == ".")
                assert trace_of(haproxy.ask("trace")) == "R"
        assert trace_of(haproxy.ask("trace")) == "."
        assert list((tmp_path / "run").iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
from hatrace.haproxy.sampler import Sampler
from hatrace.model.event import CheckResult
sampler = Sampler([int(sys.argv[1])], check_events=True, state_dir=Path(sys.argv[2]))
sampler.start()
while not any(isinstance(event, CheckResult) for event in sampler.drain()):
    time.sleep(0.05)
print("on", flush=True)
time.sleep(60)
"""


def test_a_feed_left_on_by_a_kill_is_switched_off_at_the_next_start(tmp_path: Path) -> None:
    with running(None, tmp_path) as haproxy:
        pid, run = haproxy.process.pid, tmp_path / "run"
        killed = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(pid), str(run)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        )
        assert killed.stdout is not None
        with killed.stdout:
            assert killed.stdout.readline() == "on\n"
        killed.kill()
        killed.wait(10)
        assert trace_of(haproxy.ask("trace")) in ("R", "w")
        with sampling(haproxy):
            assert trace_of(haproxy.ask("trace")) == "."
        assert list(run.iterdir()) == []


def test_a_trace_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    with running(None, tmp_path) as haproxy:
        haproxy.ask("trace check start now")
        with sampling(haproxy, check_events=True) as seen:
            seen.until(lambda: [e for e in seen.all(Trouble) if e.source == "check-events"])
        assert trace_of(haproxy.ask("trace")) == "R"
