"""drain, close and retire on a real HAProxy, judged by `ss` and /proc, never by themselves."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from hatrace import cli
from hatrace.capture.reader import read
from hatrace.haproxy import lines, parse
from hatrace.lab import builds, haproxy, peers
from hatrace.lab.haproxy import HAProxy
from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios import SCENARIOS, drain_survivor_connecting
from hatrace.lab.stage import Stage, wait_until
from hatrace.model.event import Action

CONFIG = """
    {globals}
defaults
    mode tcp
    timeout connect 20s
    timeout client 60s
    timeout server 60s
frontend fe
    bind 127.0.0.1:{front}
    default_backend be
backend be
    server s1 127.0.0.1:{s1} check inter 300 {s1_options}
    server s2 127.0.0.1:{s2} check inter 300
"""
BUILDS = {"system": None} | {
    suite: path for suite, path in builds.available().items() if suite != "bookworm"
}
"""Debian 12's is the system's."""
EVERY_BUILD = pytest.mark.parametrize("build", list(BUILDS))
TALKERS = 4


class Place(Stage):
    """A stage that also closes the clients of this very process."""

    def __init__(self) -> None:
        super().__init__()
        self.clients = ExitStack()

    def close(self) -> None:
        self.clients.close()
        super().close()


@dataclass
class Site:
    """A HAProxy with two servers, and what goes through it."""

    stage: Place
    instance: HAProxy
    front: int
    s1: int
    s2: int
    old: int = 0
    """The worker from before a reload; 0: there was none."""

    def run(self, *words: object) -> int:
        """A command on this HAProxy alone: others may run on this host."""
        return cli.run([str(word) for word in words])

    def to(self, port: int) -> list[tuple[int, str]]:
        """Pid and state of each socket to a server's port, but for checks, as ss has it."""
        rows = ss("-tanpH", "dst", f"127.0.0.1:{port}")
        found = [(int(m[1]), row.split()[0]) for row in rows if (m := re.search(r"pid=(\d+)", row))]
        return [(pid, state) for pid, state in found if state != "TIME-WAIT"]

    def status(self, server: str) -> str | None:
        return parse.stat(self.instance.ask("show stat"))[f"be/{server}"].status

    def sessions(self, server: str) -> int:
        streams = lines.streams(self.instance.ask("show sess"))
        return sum(stream.server == server for stream in streams)

    def connect(self, number: int) -> list[socket.socket]:
        """Clients that say something and stay."""
        made = [socket.create_connection(("127.0.0.1", self.front)) for _ in range(number)]
        for client in made:
            client.sendall(b"hello\n")
            self.stage.clients.callback(client.close)
        return made

    def talk(self, name: str) -> None:
        """Some that talk all the time, through each server at least one of them."""
        peers.start(self.stage, [Call("talk", self.front, per_second=50, count=TALKERS)], name)
        assert wait_until(lambda: self.sessions("s1") + self.sessions("s2") == TALKERS)
        assert self.sessions("s1") and self.sessions("s2")


def ss(*words: str) -> list[str]:
    done = subprocess.run(["ss", *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def site(
    stage: Place,
    build: str = "system",
    behaviour: str = "echo",
    shared: bool = False,
    s1_options: str = "",
    standalone: bool = False,
    globals_: str = "",
) -> Site:
    """``shared``: both servers have one address."""
    front, s1, s2 = stage.port(), stage.port(), stage.port()
    serving = [Serve(behaviour, s1)]
    if shared:
        s2 = s1
    else:
        serving.append(Serve("echo", s2))
    peers.start(stage, serving, "servers")
    config = CONFIG.format(front=front, s1=s1, s2=s2, s1_options=s1_options, globals=globals_)
    instance = haproxy.start(stage, config, BUILDS[build], standalone=standalone)
    return Site(stage, instance, front, s1, s2)


@pytest.fixture
def stage() -> Iterator[Place]:
    with Place() as made:
        yield made


@pytest.fixture
def reloaded(stage: Place, build: str) -> Site:
    """Sessions to both servers in the worker and in the one before the reload."""
    made = site(stage, build)
    made.old = made.instance.worker()
    made.talk("before")
    made.instance.reload()
    made.talk("after")
    return made


# drain ------------------------------------------------------------------------------------------


@EVERY_BUILD
def test_drain_reaches_old_workers_and_leaves_the_other_server_alone(
    reloaded: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """HAProxy's own commands do not: "Proxy is disabled." is what an old worker says."""
    here = reloaded
    assert {pid for pid, _ in here.to(here.s1)} >= {here.old, here.instance.worker()}
    capture = here.stage.directory / "drain.hatrace"
    words = ("drain", "be/s1", "--pid", here.instance.pid, "--yes", "-o", capture)
    assert here.run(*words) == 0
    out = capsys.readouterr().out
    assert "be/s1 is drained" in out and "enable server be/s1" in out
    assert here.to(here.s1) == []
    assert here.status("s1") == "MAINT" and here.status("s2") == "UP"
    assert {pid for pid, _ in here.to(here.s2)} >= {here.old, here.instance.worker()}
    actions = [event for event in read(capture).events if isinstance(event, Action)]
    assert [action.command.split(" ")[0:2] for action in actions] == [
        ["disable", "server"],
        ["shutdown", "sessions"],
        ["shutdown", "session"],
    ]
    assert here.run(*words, "--json") == 0, "once more finds nothing to do, and appends nothing"
    ended = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended["type"] == "end" and ended["left"] == 0
    assert [e for e in read(capture).events if isinstance(e, Action)] == actions


@pytest.mark.parametrize("build", ["system"])
def test_a_dry_run_changes_nothing(reloaded: Site, capsys: pytest.CaptureFixture[str]) -> None:
    here = reloaded
    before = sorted(here.to(here.s2)), here.sessions("s1")
    assert here.run("drain", "be/s1", "--pid", here.instance.pid, "--dry-run") == 0
    out = capsys.readouterr().out
    for command in ("disable server be/s1", f"@!{here.old} shutdown session 0x", "ss -K src"):
        assert command in out
    assert here.status("s1") == "UP"
    assert (sorted(here.to(here.s2)), here.sessions("s1")) == before


@EVERY_BUILD
def test_half_closed_sessions_are_destroyed(stage: Place, build: str) -> None:
    """`shutdown sessions server` does not end them, in any version."""
    here = site(stage, build, "hold", s1_options="weight 256", shared=True)
    for client in here.connect(4)[:3]:
        client.shutdown(socket.SHUT_WR)
    worker = here.instance.worker()
    assert wait_until(lambda: here.to(here.s1).count((worker, "FIN-WAIT-2")) == 3)
    for server in ("s1", "s2"):
        words = ("drain", f"be/{server}", "--pid", here.instance.pid, "--yes", "--timeout", "1s")
        assert here.run(*words) == 0
    assert here.to(here.s1) == []
    assert here.sessions("s1") + here.sessions("s2") == 0


@EVERY_BUILD
def test_sessions_that_wait_for_the_server_are_ended_before_a_command_freezes_them(
    stage: Place, build: str
) -> None:
    running = drain_survivor_connecting.begin(stage, BUILDS[build])
    stuck, worker = running.facts["stuck"], running.haproxy.worker()
    words = ["drain", "app/stuck", "--pid", str(running.haproxy.pid), "--yes", "--timeout", "1s"]
    assert cli.run(words) == 0
    assert drain_survivor_connecting.connecting(int(str(stuck))) == 0
    assert lines.streams(running.haproxy.ask("show sess")) == ()
    assert running.haproxy.worker() == worker


def test_a_neighbour_at_the_same_address_is_spared(
    stage: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    here = site(stage, shared=True)
    here.connect(6)
    assert wait_until(lambda: here.sessions("s1") == here.sessions("s2") == 3)
    assert here.run("drain", "be/s1", "--pid", here.instance.pid, "--yes") == 0
    assert "3 sockets there of other servers: not touched" in capsys.readouterr().out
    assert here.sessions("s1") == 0 and here.sessions("s2") == 3
    assert len([pid for pid, _ in here.to(here.s2) if pid == here.instance.worker()]) >= 3


def test_an_old_process_that_nobody_can_ask_is_drained_in_the_kernel(stage: Place) -> None:
    """Without a master no command reaches it: only SOCK_DESTROY does."""
    here = site(stage, standalone=True, behaviour="echo")
    old = here.instance.worker()
    here.connect(4)
    assert wait_until(lambda: here.sessions("s1") == 2)
    binary, config = here.instance.binary, here.instance.config
    stage.spawn([binary, "-db", "-f", config, "-sf", str(old)], "second.log")
    assert wait_until(lambda: here.instance.worker() not in (0, old))
    assert (old, "ESTAB") in here.to(here.s1)
    pid = here.instance.worker()
    assert here.run("drain", "be/s1", "--pid", pid, "--yes", "--timeout", "1s") == 0
    assert here.to(here.s1) == []
    assert [each for each in here.to(here.s2) if each == (old, "ESTAB")] == [(old, "ESTAB")] * 2


def test_a_socket_without_the_level_is_refused_before_anything(
    stage: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    here = site(stage, standalone=True)
    config = here.instance.config
    config.write_text(config.read_text().replace("level admin", "level operator"))
    old = here.instance.worker()
    stage.spawn([here.instance.binary, "-db", "-f", config, "-sf", str(old)], "second.log")
    assert wait_until(lambda: here.instance.worker() not in (0, old))
    words = ("drain", "be/s1", "--pid", here.instance.worker(), "--yes")
    assert wait_until(lambda: not Path(f"/proc/{old}/fd").is_dir() or not list_fds(old))
    assert here.run(*words) == 3
    assert "level operator, not admin" in capsys.readouterr().err
    assert here.status("s1") == "UP"


def list_fds(pid: int) -> list[str]:
    try:
        return [entry.name for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


def test_a_question_is_asked_and_a_no_is_a_no(stage: Place) -> None:
    """On a terminal; the first no ends it."""
    here = site(stage)
    here.connect(2)
    assert wait_until(lambda: here.sessions("s1") == 1)
    code, said = on_terminal(["drain", "be/s1", "--pid", here.instance.pid], answer=b"n\n")
    assert code == 1 and "do it? [y/N]" in said and "be/s1 is not in maintenance" in said
    assert here.status("s1") == "UP" and here.sessions("s1") == 1
    code, said = on_terminal(["drain", "be/s1", "--pid", here.instance.pid], answer=b"y\n")
    assert code == 0 and "be/s1 is drained" in said
    assert here.status("s1") == "MAINT" and here.sessions("s1") == 0


def on_terminal(words: Sequence[object], answer: bytes) -> tuple[int, str]:
    """hatrace on a terminal of its own, which gives one answer to every question."""
    ours, its = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-m", "hatrace", *map(str, words)]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment) as child:
        os.close(its)
        said, asked, ends = b"", 0, time.monotonic() + 60
        while time.monotonic() < ends:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                said += os.read(ours, 4096)
            except OSError:
                break
            while said.count(b"[y/N]") > asked:
                asked += 1
                os.write(ours, answer)
        child.kill() if child.poll() is None and time.monotonic() > ends else None
    os.close(ours)
    return child.returncode, said.decode()


# close ------------------------------------------------------------------------------------------


def half_closed(stage: Place) -> Site:
    """Three sessions whose client has finished and whose server says nothing; one that lives."""
    here = site(stage, behaviour="hold", shared=True)
    for client in here.connect(4)[:3]:
        client.shutdown(socket.SHUT_WR)
    worker = here.instance.worker()
    assert wait_until(lambda: here.to(here.s1).count((worker, "FIN-WAIT-2")) == 3)
    return here


def test_close_destroys_what_the_filter_chooses_and_nothing_else(stage: Place) -> None:
    here = half_closed(stage)
    worker = here.instance.worker()
    words = ("close", "--pid", worker, "--state", "fin-wait-2", "--dst", f"127.0.0.1:{here.s1}")
    assert here.run(*words, "--older", "1h", "--yes") == 0
    assert here.to(here.s1).count((worker, "FIN-WAIT-2")) == 3, "none is that old"
    assert here.run(*words, "--dry-run") == 0
    assert here.to(here.s1).count((worker, "FIN-WAIT-2")) == 3
    assert here.run(*words, "--yes") == 0
    assert [state for pid, state in here.to(here.s1) if pid == worker] == ["ESTAB"]
    assert wait_until(lambda: here.sessions("s1") + here.sessions("s2") == 1)
    assert [s for s in ss("-tlnH", f"sport = :{here.front}") if s], "it listens still"


def test_close_tries_one_before_it_makes_ghosts_of_all(
    stage: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """HAProxy does not watch the client's half of a half-closed session."""
    here = half_closed(stage)
    worker = here.instance.worker()
    words = ("close", "--state", "close-wait", "--src", f":{here.front}", "--pid", worker)
    assert here.run(*words, "--yes") == 1
    out = capsys.readouterr().out
    assert "spared: 2 more in CLOSE_WAIT" in out and "hatrace close --pid" in out
    assert f"kill -USR2 {here.instance.pid}" in out
    states = [row.split()[0] for row in ss("-tanH", f"sport = :{here.front}")]
    assert states.count("CLOSE-WAIT") == 2


def test_close_looks_at_haproxy_only(stage: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """The client's own end is out of scope, until its process is named."""
    here = site(stage)
    client = here.connect(1)[0]
    end = f"127.0.0.1:{here.front}"
    assert here.run("close", "--dst", end, "--yes") == 0
    assert "meant: no sockets" in capsys.readouterr().out
    client.sendall(b"still there\n")
    assert here.run("close", "--dst", end, "--pid", os.getpid(), "--yes") == 1
    assert f"still held by {os.getpid()}" in capsys.readouterr().out
    with pytest.raises(ConnectionAbortedError):  # after what was received before
        while client.recv(100):
            pass


def test_close_a_finding_live_and_from_its_capture(
    stage: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """2.9.1's leak: ghosts at the server's side, CLOSE_WAIT at the client's."""
    running = SCENARIOS["stream-leak"].play(stage, None)
    worker = running.haproxy.worker()
    assert wait_until(lambda: len(ss("-tanpH", "state", "close-wait")) > 3)
    time.sleep(3)  # the finding itself wants sockets that have been so for a while
    capture = stage.directory / "leak.hatrace"
    assert cli.run(["record", "--pid", str(worker), "-d", "4s", "-o", str(capture)]) == 1
    capsys.readouterr()
    for words in ([], ["--capture", str(capture)]):
        assert cli.run(["close", "stream-leak", "--pid", str(worker), *words, "--dry-run"]) == 0
        out = capsys.readouterr().out
        assert "CLOSE_WAIT" in out and "(ghosts)" in out and "would: destroy" in out
    words = ["close", "stream-leak", "--pid", str(worker), "--capture", str(capture), "--yes"]
    assert cli.run([*words, "-o", str(capture)]) == 1
    assert "no connection to destroy" in capsys.readouterr().out
    actions = [event for event in read(capture).events if isinstance(event, Action)]
    assert actions and all("destroyed (it was CLOSE_WAIT)" in each.result for each in actions)
    assert cli.run(["close", "port-pressure", "--capture", str(capture), "--yes"]) == 2


# retire -----------------------------------------------------------------------------------------


@EVERY_BUILD
def test_retire_ends_the_old_worker_and_nobody_else(
    reloaded: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    here = reloaded
    worker = here.instance.worker()
    for pid in (here.instance.pid, worker, os.getpid()):
        assert here.run("retire", pid, "--yes") == 2
    assert here.run("retire", here.old, "--dry-run") == 0
    out = capsys.readouterr().out
    assert f"kill -TERM {here.old}" in out and "for client 127.0.0.1:" in out
    assert here.run("retire", here.old, "--soft", "--yes", "--timeout", "500ms") == 1
    assert Path(f"/proc/{here.old}").exists()
    capture = here.stage.directory / "retire.hatrace"
    assert here.run("retire", here.old, "--yes", "-o", capture) == 0
    assert not Path(f"/proc/{here.old}").exists()
    assert not ss("-tanpH", f"( sport = :{here.front} or dport = :{here.s1} )").count(str(here.old))
    assert here.instance.worker() == worker and Path(f"/proc/{here.instance.pid}").exists()
    actions = [event for event in read(capture).events if isinstance(event, Action)]
    assert [(each.command, each.result) for each in actions] == [
        (f"kill -TERM {here.old}", "it has ended")
    ]


def test_retire_a_stopped_one(stage: Place) -> None:
    """Its signals wait until it is let run on."""
    here = site(stage)
    old = here.instance.worker()
    here.connect(2)
    assert wait_until(lambda: here.sessions("s1") == 1)
    here.instance.reload()
    os.kill(old, signal.SIGSTOP)
    assert wait_until(lambda: process_state(old) == "T")
    assert here.run("retire", old, "--yes") == 0
    assert not Path(f"/proc/{old}").exists()


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@EVERY_BUILD
def test_after_a_failed_reload_the_serving_worker_is_safe(stage: Place, build: str) -> None:
    """The master has started anew, with its own worker after -sf, and there is no other."""
    here = site(stage, build)
    worker = here.instance.worker()
    good = here.instance.config.read_text()
    here.instance.config.write_text(good + "\nnonsense\n")
    os.kill(here.instance.pid, signal.SIGUSR2)
    time.sleep(1.5)
    assert here.run("retire", worker, "--yes") in (2, 3)
    assert here.instance.worker() == worker
