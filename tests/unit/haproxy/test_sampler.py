"""The sampler, end to end, with processes that are called haproxy and answer what four versions
of HAProxy really answered (fakes.py)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from hatrace.haproxy.questions import Rhythm
from hatrace.haproxy.sampler import Sampler
from hatrace.model.event import (
    Configured,
    Descriptors,
    Event,
    Info,
    Processes,
    Servers,
    Streams,
    Trouble,
)
from hatrace.model.topology import Kind

from .fakes import eventually, running, write_config
from .recorded import VERSIONS

QUICK = Rhythm(
    scan_s=0.05, processes_s=0.2, info_s=0.1, servers_s=0.1, later_s=0.1, newborn_s=0.0, sess_s=0.1
)
EventT = TypeVar("EventT", bound=Event)


class Watched:
    """A sampler and everything it has said."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.events: list[Event] = []

    def all(self, kind: type[EventT]) -> list[EventT]:
        self.events += self.sampler.drain()
        return [event for event in self.events if isinstance(event, kind)]

    def until(self, what: Callable[[], object]) -> None:
        assert eventually(lambda: bool(what())), self.events[-20:]

    def troubles(self, subject: str) -> list[Trouble]:
        return [each for each in self.all(Trouble) if each.subject == subject]


@contextmanager
def sampling(folder: Path, *pids: int, rhythm: Rhythm = QUICK) -> Iterator[Watched]:
    sampler = Sampler(pids, lambda _: None, state_dir=folder / "run", rhythm=rhythm)
    sampler.start()
    try:
        yield Watched(sampler)
    finally:
        sampler.stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_of_a_worker(tmp_path: Path, version: str) -> None:
    with running(tmp_path, version=version) as started, sampling(tmp_path, started.pid) as seen:
        assert seen.sampler.pids() == {started.pid}
        seen.until(lambda: seen.all(Servers))
        seen.sampler.confirm(started.pid)
        seen.until(lambda: seen.all(Descriptors))
        seen.until(lambda: seen.all(Processes)[-1].processes[0].version)
    (configured,) = seen.all(Configured)
    assert configured.hard_stop_after_ms == 600_000 and configured.timeouts.client_ms == 30_000
    assert seen.all(Info)[0].values["Version"].startswith(version)
    servers = {server.label: server for server in seen.all(Servers)[0].servers}
    assert servers["be_tcp/s0"].settings.inter_ms == 500
    assert servers["be_tcp/s0"].check_status == "L4OK"
    assert seen.all(Streams)[0].complete and len(seen.all(Streams)[0].streams) == 2
    found = seen.all(Descriptors)[0]
    assert found.complete
    assert sum(1 for each in found.descriptors if each.kind == "check") == 4
    (process,) = seen.all(Processes)[-1].processes
    assert process.kind is Kind.STANDALONE and (process.version or "").startswith(version)
    assert seen.all(Trouble) == []
    times = [event.at_ns for event in seen.events]
    assert times == sorted(times)


def test_who_waits_has_the_first_answers(tmp_path: Path) -> None:
    with running(tmp_path) as started, sampling(tmp_path, started.pid) as seen:
        seen.sampler.wait(60)
        assert seen.all(Configured) and seen.all(Servers)


def test_dear_questions_are_asked_when_wanted_and_not_too_often(tmp_path: Path) -> None:
    with running(tmp_path) as started, sampling(tmp_path, started.pid) as seen:
        seen.until(lambda: len(seen.all(Info)) > 2)
        assert seen.all(Streams) == [] == seen.all(Descriptors)
        for _ in range(3):
            before = len(seen.all(Streams))
            seen.sampler.confirm(started.pid)
            seen.until(lambda before=before: len(seen.all(Streams)) > before)  # type: ignore[misc]
    assert len(seen.all(Descriptors)) == 1, "show fd at most once in 30 s"


def test_too_many_connections_to_list(tmp_path: Path) -> None:
    rhythm = Rhythm(scan_s=0.05, info_s=0.1, newborn_s=0.0, most_connections=1)
    with (
        running(tmp_path) as started,
        sampling(tmp_path, started.pid, rhythm=rhythm) as seen,
    ):
        seen.sampler.confirm(started.pid)
        seen.until(lambda: seen.troubles(f"pid {started.pid}: show sess"))
        seen.until(lambda: seen.all(Descriptors))
    assert seen.all(Streams) == []


def test_a_cut_answer_is_a_trouble_once_and_what_was_known_stays(tmp_path: Path) -> None:
    say = write_config(tmp_path).with_suffix(".say")
    with running(tmp_path) as started, sampling(tmp_path, started.pid) as seen:
        seen.until(lambda: seen.all(Servers))
        say.write_text("show servers state=cut\n")
        subject = f"pid {started.pid}: show servers state"
        seen.until(lambda: seen.troubles(subject))
        known = len(seen.all(Servers))
        infos = len(seen.all(Info))
        seen.until(lambda: len(seen.all(Info)) > infos + 3)
        assert len(seen.all(Servers)) == known
        say.write_text("")
        seen.until(lambda: len(seen.all(Servers)) > known)
        assert [each.over for each in seen.troubles(subject)] == [False, True]


def test_a_cut_list_of_streams_is_marked(tmp_path: Path) -> None:
    say = write_config(tmp_path).with_suffix(".say")
    say.write_text("show sess=cut\nshow fd=cut\n")
    with running(tmp_path) as started, sampling(tmp_path, started.pid) as seen:
        seen.sampler.confirm(started.pid)
        seen.until(lambda: seen.all(Descriptors))
    assert not seen.all(Streams)[0].complete
    assert not seen.all(Descriptors)[0].complete


def test_a_level_that_does_not_allow_it(tmp_path: Path) -> None:
    say = write_config(tmp_path).with_suffix(".say")
    say.write_text("show sess=denied\nshow fd=denied\n")
    with running(tmp_path) as started, sampling(tmp_path, started.pid) as seen:
        for _ in range(2):
            seen.sampler.confirm(started.pid)
            seen.until(lambda: seen.troubles(f"pid {started.pid}: show fd"))
        (trouble,) = seen.troubles(f"pid {started.pid}: show sess")
    assert "level" in trouble.why and "operator" in trouble.do
    assert seen.all(Streams) == []


def test_no_socket_at_all(tmp_path: Path) -> None:
    write_config(tmp_path, socket=False)
    with running(tmp_path) as started, sampling(tmp_path, started.pid) as seen:
        seen.until(lambda: seen.troubles(f"pid {started.pid}"))
        (trouble,) = seen.troubles(f"pid {started.pid}")
        assert "stats socket" in trouble.do
        assert seen.all(Configured) and seen.all(Processes)
        assert seen.sampler.command_sockets() == ()


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    file = write_config(tmp_path)
    with running(tmp_path) as started:
        file.unlink()
        with sampling(tmp_path, started.pid) as seen:
            seen.until(lambda: [e for e in seen.all(Trouble) if e.source == "config"])
            assert seen.all(Configured) == []


def test_a_configuration_changed_after_the_start(tmp_path: Path) -> None:
    file = write_config(tmp_path)
    with running(tmp_path) as started, sampling(tmp_path, started.pid) as seen:
        started_unix_s = time.time()
        os.utime(file, (started_unix_s - 30, started_unix_s - 30))
        seen.until(lambda: [e for e in seen.all(Trouble) if e.source == "config"])
        assert len(seen.all(Configured)) == 1


def test_haproxy_ends_and_comes_back(tmp_path: Path) -> None:
    name = f"lb-{os.getpid()}"
    sampler = Sampler([name], lambda _: None, state_dir=tmp_path / "run", rhythm=QUICK)
    seen = Watched(sampler)
    with running(tmp_path, name=name) as started:
        sampler.start()
        seen.until(lambda: seen.all(Servers))
    seen.until(lambda: started.pid not in sampler.pids())
    servers = len(seen.all(Servers))
    with running(tmp_path, name=name) as again:
        seen.until(lambda: len(seen.all(Servers)) > servers)
        assert sampler.pids() == {again.pid}
    sampler.stop()
    assert [each.over for each in seen.troubles("processes")] == [False, True]
    assert [each.pid for each in seen.all(Configured)] == [started.pid, again.pid]


def test_a_stopped_worker_is_a_trouble_until_it_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as started, sampling(tmp_path, started.pid) as seen:
        seen.until(lambda: seen.all(Servers))
        os.kill(started.pid, signal.SIGSTOP)
        subject = f"pid {started.pid}"
        seen.until(lambda: seen.troubles(subject))
        os.kill(started.pid, signal.SIGCONT)
        seen.until(lambda: [each.over for each in seen.troubles(subject)] == [False, True])


def test_nothing_to_sample(tmp_path: Path) -> None:
    with sampling(tmp_path, os.getpid()) as seen:
        assert seen.sampler.pids() == frozenset()
        (trouble,) = seen.all(Trouble)
        assert trouble.subject == "processes"
        assert seen.all(Processes)[0].processes == ()


def test_sockets_are_known_with_their_inode(tmp_path: Path) -> None:
    with (
        running(tmp_path, "-W", "-S", str(tmp_path / "m.sock")) as started,
        sampling(tmp_path, started.pid) as seen,
    ):
        (socket,) = seen.sampler.command_sockets()
    assert socket.path == str(tmp_path / "stats.sock")
    assert socket.inode and not socket.master and socket.limit == 10
