"""The live view on a real pseudo-terminal: keys, signals, and the terminal left as it was.

The program below runs as a child whose terminal is the pty; what it draws is read by the
test, and the terminal's settings are compared before and after.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
WAIT_S = 60.0

PROGRAM = """
import signal, sys, time
from contextlib import nullcontext
from hatrace.commands._signals import Ending
from hatrace.flows.table import Table
from hatrace.sinks.live.app import LiveView
from hatrace.sinks.live.pace import Pace
from tests import factories as make
from tests.unit.sinks import story
wanted = sys.argv[1]
if wanted in ("signalled", "stopped"):  # as cli.main has it
    signal.signal(signal.SIGHUP, lambda number, _: sys.exit(128 + number))
world = Table(make.info())
pace = Pace() if wanted == "replay" else None
ending = Ending()
with LiveView(make.info(), pace) as view, ending if wanted == "stopped" else nullcontext():
    for number, event in enumerate(story.events(10_000)):
        world.apply(event)
        view.accept(event, world, story.verdict(story.finding()))
        for _ in range(2):
            view.poll()
            time.sleep(0.01)
        if wanted == "crash" and number > 40:
            raise RuntimeError("a defect")
        if view.stop_requested or ending.number:
            break
if ending.number:
    sys.exit(128 + ending.number)
print("left with", view.stop_requested, flush=True)
"""

ENTER_SCREEN, LEAVE_SCREEN, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


class Session:
    """A child with a terminal of its own, 120 columns by 40 lines."""

    def __init__(self, wanted: str = "run") -> None:
        self.wanted = wanted
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (40, 120))
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, wanted],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            start_new_session=wanted != "stopped",
            process_group=0 if wanted == "stopped" else None,
            env=os.environ
            | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "TERM": "xterm-256color", "NO_COLOR": "1"},
        )
        self.output = b""
        self.read_until("1 finding:")

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def read_until(self, wanted: str, since: int = 0) -> str:
        """What was drawn, once it has these words; fails when they do not come."""
        deadline = time.monotonic() + WAIT_S
        while wanted not in plain(self.output[since:]):
            if not self._read(deadline):
                pytest.fail(f"{wanted!r} never came; last: {plain(self.output)[-3000:]}")
        return plain(self.output[since:])

    def end(self) -> int:
        """The exit code, with all output read."""
        deadline = time.monotonic() + WAIT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(time.monotonic() + 0.05)
        while self._read(time.monotonic() + 0.05):
            pass
        return self.process.wait(timeout=1)

    def stop(self, number: signal.Signals) -> None:
        """Send a signal that stops it, and see that it has."""
        self.process.send_signal(number)
        deadline = time.monotonic() + WAIT_S
        while os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOHANG) is None:
            assert time.monotonic() < deadline
            self._read(time.monotonic() + 0.01)

    def hang_up(self) -> None:
        """Its terminal goes, as when ssh breaks off."""
        for fd in (self._theirs, self.ours):
            os.close(fd)
        self.ours, self._theirs = (os.open(os.devnull, os.O_RDWR) for _ in range(2))

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._theirs)

    def complaint(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        os.close(self.ours)
        os.close(self._theirs)

    def _read(self, deadline: float) -> bool:
        """Whether something came before the deadline."""
        ready, _, _ = select.select([self.ours], [], [], max(0, deadline - time.monotonic()))
        if ready:
            self.output += os.read(self.ours, 65536)
        return bool(ready)


def plain(output: bytes) -> str:
    """Without escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode(errors="replace"))


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    one = Session(getattr(request, "param", "run"))
    try:
        yield one
    finally:
        one.close()


def assert_terminal_is_as_it_was(session: Session) -> None:
    assert session.settings() == session.before
    assert session.output.rfind(LEAVE_SCREEN) > session.output.rfind(ENTER_SCREEN) >= 0
    assert SHOW_CURSOR in session.output[session.output.rfind(ENTER_SCREEN) :]


def test_a_terminal_is_one_whatever_rich_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """``TTY_COMPATIBLE=0`` (rich) says that it is none: it is for what is printed, not drawn."""
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    with closing(Session()) as session:
        session.press("q")
        assert session.end() == 0
        assert_terminal_is_as_it_was(session)


def test_q_ends_it_and_gives_the_terminal_back(session: Session) -> None:
    assert session.settings() != session.before
    session.press("q")
    assert session.end() == 0
    assert "left with True" in plain(session.output)
    assert_terminal_is_as_it_was(session)


def test_keys_open_evidence_help_and_filter(session: Session) -> None:
    session.press("\r")
    session.read_until("Then see that it worked")
    session.press("\x1b")
    mark = len(session.output)
    session.read_until("sorted by role", mark)
    session.press("s")
    session.read_until("sorted by held")
    session.press("?")
    session.read_until("What rung cgroup cannot see")
    session.press("?/be/s1\r")
    session.read_until('filter "be/s1"')
    session.press("t")
    session.read_until('health checks: 1 held  filter "be/s1"')


def test_pause_holds_the_picture_while_events_go_on(session: Session) -> None:
    session.press("p")
    session.read_until(" PAUSED ")
    mark = len(session.output)
    session.press("s")
    held = session.read_until("sorted by held", mark)
    paused_at = clock(held)
    session.press("s")
    assert clock(session.read_until("sorted by open", mark)) == paused_at
    mark = len(session.output)
    session.press("p")
    deadline = time.monotonic() + WAIT_S
    while clock(session.read_until("sorted by open", mark)) <= paused_at:
        assert time.monotonic() < deadline
        session.read_until("hatrace", len(session.output))


def clock(drawn: str) -> str:
    """The latest time of day in the header."""
    return re.findall(r"\d\d:\d\d:\d\d", drawn)[-1]


def test_a_new_size_is_followed(session: Session) -> None:
    mark = len(session.output)
    termios.tcsetwinsize(session.ours, (24, 200))
    session.read_until("sent  received", mark)


@pytest.mark.parametrize("session", ["crash"], indirect=True)
def test_a_crash_leaves_the_terminal_as_it_was(session: Session) -> None:
    assert session.end() == 1
    assert "RuntimeError: a defect" in session.complaint()
    assert_terminal_is_as_it_was(session)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_with_the_terminal_as_it_was(
    session: Session, number: signal.Signals
) -> None:
    session.process.send_signal(number)
    assert session.end() == 0
    assert_terminal_is_as_it_was(session)


def test_interrupt_leaves_the_terminal_as_it_was(session: Session) -> None:
    session.process.send_signal(signal.SIGINT)
    assert session.end() != 0
    assert "KeyboardInterrupt" in session.complaint()
    assert_terminal_is_as_it_was(session)


def test_suspend_gives_the_terminal_back_and_continue_takes_it_again(session: Session) -> None:
    """The child leads its own session, so the kernel would discard a default SIGTSTP of an
    orphaned group: what is seen is that the screen is left, and taken again."""
    mark = len(session.output)
    session.process.send_signal(signal.SIGTSTP)
    deadline = time.monotonic() + WAIT_S
    while not 0 <= session.output.find(LEAVE_SCREEN, mark) < session.output.rfind(ENTER_SCREEN):
        assert time.monotonic() < deadline
        session.read_until("hatrace", len(session.output))
    session.process.send_signal(signal.SIGCONT)
    session.press("q")
    assert session.end() == 0
    assert_terminal_is_as_it_was(session)


@pytest.mark.parametrize("session", ["replay"], indirect=True)
def test_a_replay_has_keys_of_its_own(session: Session) -> None:
    session.read_until(" REPLAY x1 ")
    session.press("+")
    session.read_until(" REPLAY x2 ")
    session.press(" ")
    session.read_until(" REPLAY x2 PAUSED ")


@pytest.mark.parametrize("session", ["run", "replay"], indirect=True)
def test_a_terminal_that_goes_away_ends_it(session: Session) -> None:
    session.hang_up()
    assert (session.process.wait(timeout=WAIT_S), session.complaint()) == (0, "")


@pytest.mark.parametrize(
    ("session", "stopping"),
    [("signalled", signal.SIGSTOP), ("stopped", signal.SIGTSTP)],
    indirect=["session"],
)
def test_a_terminal_that_goes_away_with_its_signal(
    session: Session, stopping: signal.Signals
) -> None:
    """The kernel sends both signals to a terminal's session.  It is stopped meanwhile, so that it
    cannot see the one before the other; by Ctrl-Z, it then wants the terminal back."""
    session.stop(stopping)
    session.hang_up()
    session.process.send_signal(signal.SIGHUP)
    session.process.send_signal(signal.SIGCONT)
    assert (session.process.wait(timeout=WAIT_S), session.complaint()) == (129, "")
