"""``hatrace replay FILE``: the live view, fed from a capture.

The events go the same way as live ones, so the findings are the same; only who waits for
them differs: here it is `Player`, by the times inside the capture.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from hatrace import detectors
from hatrace.capture.reader import read
from hatrace.commands._options import json_option
from hatrace.flows.table import Table
from hatrace.haproxy import known_issues
from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import Event
from hatrace.pipeline import run
from hatrace.sinks.display import Display
from hatrace.sinks.lines import JsonLines, TextLines
from hatrace.sinks.live.app import LiveView
from hatrace.sinks.live.pace import Pace
from hatrace.sinks.live.terminal import usable

_NAP_S = 0.03


def parse_speed(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """``max``, or how many times as fast as it happened: ``4``, ``0.5``, ``x10``."""
    if text is None:
        return None
    speed = math.nan
    with contextlib.suppress(ValueError):
        speed = math.inf if text.lower() == "max" else float(text.lower().removeprefix("x"))
    if not speed > 0:
        raise click.BadParameter(f"{text!r} is no speed: write 4, 0.5 or max", context, option)
    return speed


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed",
    callback=parse_speed,
    metavar="N|max",
    help="1: as it happened; 10, 0.5; max.  [on a screen: 1, else max]",
)
@json_option
def command(file: Path, speed: float | None, as_json: bool) -> int:
    """The live view, from a capture file.

    space pauses, + and - change the speed, q ends it.  Without a terminal, or with --json,
    it prints lines, as fast as it can unless --speed says otherwise.
    """
    info, events, _ = read(file)
    on_screen = usable() and not as_json
    pace = Pace(speed or (1.0 if on_screen else math.inf))
    screen = _screen(info, pace, on_screen, as_json)
    with screen:
        player = Player(pace, screen, info.started_ns)
        book = run(
            player.play(events, linger=on_screen),
            Table(info),
            detectors.create(known_issues.matching),
            [screen],
        )
    return 1 if book.open else 0


def _screen(info: CaptureInfo, pace: Pace, on_screen: bool, as_json: bool) -> Display:
    if on_screen:
        return LiveView(info, pace)
    return JsonLines(sys.stdout) if as_json else TextLines(sys.stdout)


class Player:
    """Hands events on when their time has come; the screen works while it waits."""

    def __init__(self, pace: Pace, screen: Display, start_ns: int) -> None:
        self._pace = pace
        self._screen = screen
        self._position_ns = float(start_ns)
        """How far the capture's own clock is."""
        self._looked_s = time.monotonic()

    def play(self, events: Iterator[Event], linger: bool) -> Iterator[Event]:
        """Until the end, or until the user has seen enough; ``linger``: stay at the end."""
        for event in events:
            if not self._wait_for(event.at_ns):
                return
            yield event
        self._pace.ended = True
        while linger and not self._screen.stop_requested:
            time.sleep(_NAP_S)
            self._screen.poll()

    def _wait_for(self, at_ns: int) -> bool:
        """Whether to go on."""
        while True:
            self._screen.poll()
            if self._screen.stop_requested:
                return False
            self._advance()
            if not self._pace.paused and self._ahead_s(at_ns) <= 0:
                return True
            time.sleep(_NAP_S if self._pace.paused else min(_NAP_S, self._ahead_s(at_ns)))

    def _advance(self) -> None:
        now_s = time.monotonic()
        if not self._pace.paused and math.isfinite(self._pace.speed):
            self._position_ns += (now_s - self._looked_s) * 1e9 * self._pace.speed
        self._looked_s = now_s

    def _ahead_s(self, at_ns: int) -> float:
        """Real time until the capture's clock shows this time."""
        if math.isinf(self._pace.speed):
            self._position_ns = max(self._position_ns, at_ns)
            return 0.0
        return (at_ns - self._position_ns) / 1e9 / self._pace.speed
