"""However hatrace ends, nothing of it stays behind, and what it gathered is kept."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hatrace.capture.reader import read
from hatrace.lab.peers import Call, start
from hatrace.lab.scenario import Running
from hatrace.lab.scenarios import SCENARIOS
from hatrace.lab.stage import Stage, wait_until
from hatrace.model.event import Servers, Tick
from tests.kernel.running import SOURCE, Hatrace, exists, run

MOST_BYTES = 60 << 20
"""What hatrace may hold in memory while it watches."""
BUSY_S = 6.0


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture(scope="module")
def leaking(stage: Stage) -> Running:
    return SCENARIOS["check-leak"].play(stage, None)


@pytest.fixture
def scope(leaking: Running) -> list[str]:
    return ["--pid", str(leaking.haproxy.pid)]


def test_nothing_stays_after_kill_9(scope: list[str], tmp_path: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text().count("\n")
    with Hatrace("record", *scope, "--json", "-o", str(tmp_path / "x")) as hatrace:
        hatrace.finding("check-leak")
        ids = hatrace.bpf_ids()
        assert len({command for command, _ in ids}) == 3, "programs, maps and links"
        assert all(exists(*each) for each in ids)
        hatrace.end(signal.SIGKILL)
        assert wait_until(lambda: not any(exists(*each) for each in ids)), "BPF objects stay"
        assert hatrace.relatives() == []
    assert Path("/proc/self/mountinfo").read_text().count("\n") <= mounts


def test_what_leaked_before_is_named_with_the_second_picture(
    scope: list[str], tmp_path: Path
) -> None:
    """If HAProxy has answered by the first: it is waited for, but not for long."""
    path = tmp_path / "x"
    with Hatrace("live", *scope, "--json") as hatrace:
        hatrace.finding("check-leak")  # it leaks for long enough
    assert run("record", *scope, "-d", "3s", "-o", str(path)).code == 1
    capture = read(path)
    events = list(capture.events)
    pictures = [event.at_ns for event in events if isinstance(event, Tick)]
    answered_ns = next(event.at_ns for event in events if isinstance(event, Servers))
    named_ns = next(
        change.finding.at_ns for change in capture.findings if change.finding.slug == "check-leak"
    )
    assert named_ns == pictures[1 if answered_ns < pictures[0] else 2]


def test_a_capture_after_kill_9_yields_what_it_holds(scope: list[str], tmp_path: Path) -> None:
    capture = tmp_path / "x.hatrace"
    with Hatrace("record", *scope, "--json", "-o", str(capture)) as hatrace:
        hatrace.finding("check-leak", "updated")
        time.sleep(2)  # so that a second's chunk is on the disk
        hatrace.end(signal.SIGKILL)
    report = run("report", "--json", str(capture))
    assert (report.code, report.errors) == (1, "")
    content = json.loads(report.out)
    assert content["findings"][0]["slug"] == "check-leak"
    assert "it has no end" in content["troubles"][0]["why"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_and_keep_the_capture(
    number: signal.Signals, scope: list[str], tmp_path: Path
) -> None:
    capture = tmp_path / "x.hatrace"
    with Hatrace("record", *scope, "--json", "-o", str(capture)) as hatrace:
        hatrace.finding("check-leak")
        ids = hatrace.bpf_ids()
        ended = hatrace.end(number)
        assert hatrace.relatives() == []
    assert (ended.code, ended.errors) == (128 + number, "")
    assert ended.rows[-1]["type"] == "end"
    assert wait_until(lambda: not any(exists(*each) for each in ids))
    assert capture.stat().st_mode & 0o777 == 0o600
    assert not read(capture).info.redacted
    assert run("report", str(capture)).code == 1


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.4, 0.7, 1.0])
def test_ctrl_c_while_it_starts(seconds: float, scope: list[str]) -> None:
    with Hatrace("live", *scope, "--json") as hatrace:
        time.sleep(seconds)
        ended = hatrace.end(signal.SIGINT)
        assert wait_until(lambda: hatrace.relatives() == [])
    assert ended.code in (130, -signal.SIGINT), ended.errors
    if "import" not in ended.errors:  # Python itself was still starting
        assert ended.errors == ""


def test_a_reader_that_leaves_ends_it(scope: list[str]) -> None:
    words = f"{sys.executable} -m hatrace live {' '.join(scope)} --json | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"{words}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": SOURCE},
    )  # fmt: skip
    assert json.loads(done.stdout)["type"] == "start"
    assert done.returncode in (0, 1, 141)
    assert done.stderr == ""


def test_memory_of_the_lines_under_load(stage: Stage, leaking: Running, scope: list[str]) -> None:
    front = leaking.facts["front"]
    assert isinstance(front, int)
    start(stage, [Call("close", front, per_second=500, send="x\n")], "load")
    with Hatrace("live", *scope, "--json") as hatrace:
        hatrace.finding("check-leak")
        time.sleep(BUSY_S)
        assert hatrace.resident_bytes() < MOST_BYTES


def test_memory_of_the_view_on_a_terminal(scope: list[str]) -> None:
    with terminal(["live", *scope]) as (pid, shown):
        assert shown(b"check-leak", 30)
        shown(b"never", BUSY_S)
        status = Path(f"/proc/{pid}/status").read_text()
        resident_kb = int(status.split("VmRSS:")[1].split()[0])
        assert resident_kb << 10 < MOST_BYTES


@contextmanager
def terminal(words: list[str]) -> Iterator[tuple[int, Shown]]:
    """hatrace on a terminal of its own, 40 by 140; its pid, and a reader of what it draws."""
    controller, inside = pty.openpty()
    fcntl.ioctl(controller, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
    environment = os.environ | {"PYTHONPATH": SOURCE, "TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-m", "hatrace", *words],
        stdin=inside, stdout=inside, stderr=inside, env=environment,
    ) as process:  # fmt: skip
        os.close(inside)
        try:
            yield process.pid, Shown(controller)
        finally:
            process.kill()
            os.close(controller)


class Shown:
    """Reads a terminal all the time, as a terminal is read."""

    def __init__(self, controller: int) -> None:
        self._controller = controller

    def __call__(self, text: bytes, seconds: float) -> bool:
        """Whether a text was drawn in time."""
        seen, deadline = b"", time.monotonic() + seconds
        while text not in seen and time.monotonic() < deadline:
            if select.select([self._controller], [], [], 0.1)[0]:
                seen += os.read(self._controller, 65536)
        return text in seen
