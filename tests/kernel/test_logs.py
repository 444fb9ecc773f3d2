"""HAProxy's log lines from real rings, a real journald and a real file, with a real HAProxy."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hatrace.haproxy.asking import Asking
from hatrace.haproxy.log_ring import Ring
from hatrace.haproxy.logs import Logs
from hatrace.haproxy.sampler import Sampler
from hatrace.haproxy.troubles import Troubles
from hatrace.lab import builds
from hatrace.lab.haproxy import HAProxy, start
from hatrace.lab.stage import Stage, wait_until
from hatrace.model.event import Event, LogLine, Trouble

pytestmark = pytest.mark.kernel

JOURNALD = Path("/lib/systemd/systemd-journald")
CONFIG = """    log {target} local0
{section}
defaults
    mode http
    log global
    option httplog
    option log-health-checks
    timeout connect 1s
    timeout client 5s
    timeout server 5s
listen a
    bind 127.0.0.1:{port}
    server s 127.0.0.1:1 disabled
"""
RING = "ring r1\n    format rfc3164\n    maxlen 1200\n    size 32764\n"
ENABLED = "Server a/s is UP/READY (leaving forced maintenance)."


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as one:
        yield one


def collected(text: str, put: list[Event]) -> list[LogLine]:
    return [one for one in put if isinstance(one, LogLine) and text in one.text]


def speak(haproxy: HAProxy) -> None:
    """Have it log an event."""
    haproxy.ask("enable server a/s")


def request(port: int) -> None:
    """Have it log a request, which is no event."""
    subprocess.run(
        ["bash", "-c", f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' > /dev/tcp/127.0.0.1/{port}"]
    )


def until(text: str, put: list[Event], work: Callable[[], None]) -> bool:
    def seen() -> bool:
        work()
        return bool(collected(text, put))

    return wait_until(seen)


@pytest.mark.parametrize("suite", [None, *sorted(builds.available())])
def test_a_ring_is_read_and_loses_nothing_by_it(stage: Stage, suite: str | None) -> None:
    binary = builds.available()[suite] if suite else None
    text = CONFIG.format(target="ring@r1", section=RING, port=31600)
    haproxy = start(stage, text, binary, standalone=True)
    sampler = Sampler([haproxy.pid], logs="auto")
    put: list[Event] = []
    sampler.start()
    try:
        time.sleep(2)  # the ring's first look is past
        speak(haproxy)
        request(31600)
        assert until(ENABLED, put, lambda: put.extend(sampler.drain())), put[-5:]
    finally:
        sampler.stop()
    (line,) = collected(ENABLED, put)
    assert line.pid == haproxy.pid
    assert not collected("GET", put)
    assert ENABLED in haproxy.ask("show events r1")  # it is there for others
    assert "r1         : type=buffer, 0 dropped" in haproxy.ask("show events")


def test_a_ring_that_was_overwritten_is_a_gap(stage: Stage) -> None:
    text = CONFIG.format(target="ring@r1", section=RING, port=31601)
    haproxy = start(stage, text, standalone=True)
    ring = Ring()
    request(31601)  # a line like no other
    assert wait_until(lambda: "GET" in haproxy.ask("show events r1"))
    ring.new(haproxy.ask("show events r1").encode())
    for _ in range(400):
        haproxy.ask("disable server a/s; enable server a/s")
    news = ring.new(haproxy.ask("show events r1").encode())
    assert ring.gap
    assert ENABLED.encode() in news


def test_a_file_that_haproxy_writes(stage: Stage) -> None:
    text = CONFIG.format(target="stderr format raw", section="", port=31602)
    haproxy = start(stage, text, standalone=True)
    put: list[Event] = []
    logs = Logs(put.append, Troubles(put.append), str(stage.directory / "haproxy.log"))
    logs.poll((), Asking(), {})
    speak(haproxy)
    assert until("is UP", put, lambda: logs.poll((), Asking(), {}))
    logs.stop()
    assert all("\n" not in one.text for one in put if isinstance(one, LogLine))


@pytest.fixture
def journald() -> Iterator[str]:
    """A journald of its own, in a namespace of systemd's; its name."""
    if not JOURNALD.exists() or shutil.which("journalctl") is None:
        pytest.skip("needs systemd-journald and journalctl")
    name = "hatrace-test"
    child = subprocess.Popen([JOURNALD, name], stderr=subprocess.DEVNULL)
    socket = Path(f"/run/systemd/journal.{name}/dev-log")
    try:
        assert wait_until(socket.exists)
        yield name
    finally:
        child.terminate()
        child.wait()
        shutil.rmtree(socket.parent, ignore_errors=True)
        for top in ("/run/log/journal", "/var/log/journal"):
            for folder in Path(top).glob(f"*.{name}"):
                shutil.rmtree(folder, ignore_errors=True)


def test_the_journal(stage: Stage, journald: str) -> None:
    target = f"/run/systemd/journal.{journald}/dev-log"
    haproxy = start(stage, CONFIG.format(target=target, section="", port=31603), standalone=True)
    put: list[Event] = []
    options = (f"--namespace={journald}",)
    logs = Logs(put.append, Troubles(put.append), journal_options=options)
    listed = subprocess.run(
        ["journalctl", f"--namespace={journald}", "-n", "1"], capture_output=True, timeout=20
    )
    assert listed.returncode == 0
    logs.poll((), Asking(), {})

    def work() -> None:
        haproxy.ask("disable server a/s; enable server a/s")
        request(31603)
        logs.poll((), Asking(), {})

    assert until(ENABLED, put, work), put
    logs.stop()
    assert {one.pid for one in collected(ENABLED, put)} == {haproxy.pid}
    assert not collected("GET", put)
    assert not [one for one in put if isinstance(one, Trouble)]
