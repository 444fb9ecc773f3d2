"""`hatrace replay` as a user runs it: a real capture file, the real command, a real terminal."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatrace.capture.writer import Writer
from hatrace.commands.replay import Player
from hatrace.model.event import Event, Tick
from hatrace.sinks.live.pace import Pace
from tests import factories as make
from tests.unit.sinks import story

ROOT = Path(__file__).parents[3]
WAIT_S = 60.0
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TERM": "xterm", "NO_COLOR": "1"}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "hatrace", "replay", *map(str, arguments)]


def replay(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=WAIT_S
    )


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of the story of tests/unit/sinks."""
    return written(tmp_path_factory.mktemp("replay") / "leak.hatrace", story.events(120))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    events: list[Event] = [make.processes(make.at(0)), make.servers(make.at(0))]
    events += [Tick(make.at(second)) for second in range(1, 60)]
    return written(tmp_path_factory.mktemp("replay") / "healthy.hatrace", iter(events))


def written(path: Path, events: Iterator[Event]) -> Path:
    with Writer(path, make.info(blind_spots=story.BLIND_SPOTS)) as writer:
        for event in events:
            writer.write(event)
    return path


def test_json_of_a_leak_has_the_finding_and_exit_code_1(leaking: Path) -> None:
    done = replay(leaking, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (rows[0]["type"], rows[-1]["type"]) == ("start", "end")
    assert rows[-1]["elapsed_s"] == 120
    slugs = {row["finding"]["slug"] for row in rows if row["type"] == "finding"}
    assert "check-leak" in slugs


def test_the_same_capture_gives_the_same_lines(leaking: Path) -> None:
    assert replay(leaking, "--json").stdout == replay(leaking, "--json", "--speed", "max").stdout


def test_lines_of_a_healthy_minute_and_exit_code_0(healthy: Path) -> None:
    done = replay(healthy)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 findings open" in done.stdout.splitlines()[-1]


def test_what_is_no_capture_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no capture")
    done = replay(path)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert "notes.txt" in done.stderr


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan"])
def test_a_speed_that_is_none_is_a_usage_error(healthy: Path, speed: str) -> None:
    done = replay(healthy, "--speed", speed)
    assert done.returncode == 2
    assert "write 4, 0.5 or max" in done.stderr


class Watching:
    """A display that notes what the player makes of it, and stops when it is told to."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.polls, self.stop_after = 0, stop_after

    @property
    def stop_requested(self) -> bool:
        return self.polls >= self.stop_after

    def poll(self) -> None:
        self.polls += 1


def ticks(*seconds: float) -> Iterator[Event]:
    return iter([Tick(make.at(second)) for second in seconds])


def test_at_full_speed_nothing_is_waited_for_and_nothing_is_left_out() -> None:
    pace = Pace(math.inf)
    player = Player(pace, Watching(), make.START)  # type: ignore[arg-type]
    assert list(player.play(ticks(1, 3600, 360_000), linger=False)) == list(ticks(1, 3600, 360_000))
    assert pace.ended


def test_events_wait_for_their_time_and_a_stop_ends_the_wait() -> None:
    player = Player(Pace(1.0), Watching(stop_after=3), make.START)  # type: ignore[arg-type]
    assert list(player.play(ticks(0, 10**6), linger=True)) == list(ticks(0))


def test_faster_is_faster() -> None:
    """A thousand seconds at a million times the speed: over at once, though paced."""
    player = Player(Pace(1e6), Watching(), make.START)  # type: ignore[arg-type]
    assert len(list(player.play(ticks(*range(0, 1000, 100)), linger=False))) == 10


def test_on_a_terminal_it_shows_the_live_view_and_stays_at_the_end(leaking: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    process = subprocess.Popen(
        command(leaking, "--speed", "max"),
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=ENVIRONMENT,
    )
    try:
        read_until(ours, " REPLAY END ", "check-leak", "held  +30/min")
        os.write(ours, b"q")
        read_until(ours, "\x1b[?1049l")
        assert process.wait(timeout=WAIT_S) == 1
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
        os.close(ours)
        os.close(theirs)


def read_until(fd: int, *wanted: str) -> None:
    """Until all of it came; escape sequences count only where one is ``wanted``."""
    deadline, output = time.monotonic() + WAIT_S, ""
    while not all(one in output or one in plain(output) for one in wanted):
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{wanted!r} never came; last: {output[-2000:]}"
        output += os.read(fd, 65536).decode(errors="replace")


def plain(output: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
