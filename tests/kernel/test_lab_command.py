"""``hatrace lab`` as a user has it: how it ends, and that nothing stays behind.

Each scenario is played in test_live.
"""

from __future__ import annotations

import json
import os
import pty
import secrets
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hatrace.lab.stage import wait_until

LAB = [sys.executable, "-m", "hatrace", "lab"]
MARK = f"HATRACE_TEST={secrets.token_hex(8)}"
ENVIRONMENT = os.environ | {
    "HATRACE_TEST": MARK.partition("=")[2],
    "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
    "TERM": "xterm-256color",
}


@contextmanager
def lab(*words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A `hatrace lab` whose stdout is read; killed at the end, if it still runs."""
    with subprocess.Popen(
        [*LAB, *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=ENVIRONMENT, **options,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def remains() -> list[int]:
    """Processes of this test's labs: they inherit a mark, hatrace itself and the guard too."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if MARK.encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def test_a_finding_is_said_by_the_exit_code_and_nothing_is_lost() -> None:
    with lab("stream-leak", "--json", "-d", "12s") as process:
        last = list(lines(process))[-1]
        assert process.wait(60) == 1
    assert last["findings"] == 1
    assert last["losses"]["ring_full"] == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_stays_when_hatrace_is_ended(number: signal.Signals) -> None:
    with lab("master-socket", "--cause", "worker", "--json") as process:
        next(lines(process))
        assert len(remains()) >= 6
        process.send_signal(number)
        process.wait(20)
    assert wait_until(lambda: not remains()), remains()


def test_q_ends_the_live_view_and_the_lab() -> None:
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 140))
    with subprocess.Popen(
        [*LAB, "check-leak"], stdin=terminal, stdout=terminal, stderr=terminal, env=ENVIRONMENT
    ) as process:
        try:
            os.close(terminal)
            assert screen_shows(controller, b"health-check sockets")
            os.write(controller, b"q")
            screen_shows(controller, b"never", until=lambda: process.poll() is not None)
            assert process.wait(20) == 1
        finally:
            process.kill()
            os.close(controller)
    assert wait_until(lambda: not remains()), remains()


def screen_shows(
    controller: int, text: bytes, seconds: float = 30, until: Any = lambda: False
) -> bool:
    """Whether a text was drawn; what is drawn is read all the time, as a terminal does."""
    seen, deadline = b"", time.monotonic() + seconds
    while text not in seen and time.monotonic() < deadline and not until():
        if select.select([controller], [], [], 0.1)[0]:
            try:
                seen += os.read(controller, 65536)
            except OSError:
                return False
    return text in seen
