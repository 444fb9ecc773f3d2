"""The live view: a sink with a screen and a keyboard.

The session drives it: `accept` for each event, `poll` between events.  A frame is folded at
ticks, at most four times a second, and less often when folding takes long; keys and changes
of the window's size are answered at each poll.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.segment import Segment

from hatrace.model.event import Event, Tick
from hatrace.model.finding import Finding
from hatrace.sinks.live.frame import before_first_tick
from hatrace.sinks.live.keys import ViewState, press
from hatrace.sinks.live.pace import Pace
from hatrace.sinks.live.state import Folder
from hatrace.sinks.live.terminal import Keyboard
from hatrace.sinks.live.view import draw
from hatrace.sinks.stream import forget

if TYPE_CHECKING:
    from hatrace.model.capture_info import CaptureInfo
    from hatrace.model.world import World
    from hatrace.pipeline import Verdict

FRAME_S = 0.25
"""A quarter of a second between frames: faster than that nobody reads."""
SHARE = 20
"""Folding and drawing may take one part in twenty of the time."""
KEYS_S = 0.03
"""Between two looks at the keyboard: long enough for a key's bytes to arrive together."""

Handler = Callable[[int, FrameType | None], Any] | int | None


class LiveView:
    """Shows a run on the terminal of stdin and stdout; ``pace`` makes it a replay's view.

    The terminal is as it was after every way out: quit, exception, SIGTERM, SIGHUP, SIGTSTP.
    """

    def __init__(self, info: CaptureInfo, pace: Pace | None = None) -> None:
        self._pace = pace
        self._console = Console(force_terminal=True)  # `usable` has seen that it is one
        self._open = False
        """Whether the screen is ours."""
        self._keyboard = Keyboard(sys.stdin.fileno())
        self._handlers: dict[int, Handler] = {}
        self._suspend = self._ended = self._redraw = False
        self._folder = Folder()
        self._frame = before_first_tick(info)
        self._state = ViewState()
        self._opened: Finding | None = None
        self._news: tuple[World, Verdict] | None = None
        self._next_fold_s = self._next_keys_s = self._next_size_s = 0.0
        self._size = self._console.size
        self._drawn: tuple[tuple[int, int], str] = (0, 0), ""
        """Size of the screen, and the replay's pace, of the last picture."""
        self._scroll_limit = 0

    @property
    def stop_requested(self) -> bool:
        return self._state.quit or self._ended or self._keyboard.hung_up

    def accept(self, event: Event, world: World, verdict: Verdict) -> None:
        if isinstance(event, Tick):
            self._news = world, verdict
            self._fold_if_due()

    def poll(self) -> None:
        """Keys, signals and the window's size since the last call; then the picture."""
        if self._suspend:
            self._stop_and_wait()
        now_s = time.monotonic()
        if now_s >= self._next_keys_s:
            self._next_keys_s = now_s + KEYS_S
            for key in self._keyboard.pressed():
                self._press(key)
        if now_s >= self._next_size_s:
            self._next_size_s, self._size = now_s + FRAME_S, self._console.size
        self._fold_if_due()
        self._draw_if_changed()

    def __enter__(self) -> Self:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        self._take_signals()
        try:
            self._open_screen()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        try:
            self._close_screen()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()

    def _press(self, key: str) -> None:
        if self._pace is not None and not self._state.typing and self._pace.press(key):
            self._redraw = True
            return
        keys = tuple(finding.key for finding in self._frame.findings)
        self._state = press(self._state, key, keys, self._scroll_limit)
        self._redraw = True
        if not self._state.paused:
            self._fold_if_due()

    def _fold_if_due(self) -> None:
        """Take up what is new, unless the picture is to stand still."""
        started_s = time.monotonic()
        if self._news is None or self._state.paused or started_s < self._next_fold_s:
            return
        self._frame = self._folder.fold(*self._news)
        self._news = None
        self._next_fold_s = started_s + FRAME_S
        self._spent(started_s)
        self._redraw = True

    def _spent(self, since_s: float) -> None:
        """The longer a frame takes, the later comes the next."""
        self._next_fold_s += SHARE * (time.monotonic() - since_s)

    def _draw_if_changed(self) -> None:
        size = self._size
        now = size, str(self._pace)
        shown = self._open and not self._keyboard.hung_up
        if not shown or not (self._redraw or now != self._drawn):
            return
        self._redraw, self._drawn = False, now
        started_s = time.monotonic()
        screen = draw(
            self._console,
            self._frame,
            self._state,
            *size,
            pace=self._pace,
            opened=self._opened_finding(),
        )
        self._scroll_limit = screen.scroll_limit
        lines = [Segment.adjust_line_length(line, size[0]) for line in screen.picture]
        try:
            self._console.update_screen_lines(lines)
        except OSError:
            self._terminal_has_gone()
        self._spent(started_s)

    def _opened_finding(self) -> Finding | None:
        """The one whose evidence is shown: as it is now, or as it was when last seen."""
        if not self._state.evidence:
            self._opened = None
        for finding in self._frame.findings:
            if self._state.evidence and finding.key == self._state.selected:
                self._opened = finding
        return self._opened

    def _open_screen(self) -> None:
        self._keyboard.open()
        self._open = True
        try:
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)
        except OSError:
            self._terminal_has_gone()
        self._redraw = True
        self._draw_if_changed()

    def _close_screen(self) -> None:
        opened, self._open = self._open, False
        try:
            if opened:
                self._console.show_cursor(True)
                self._console.set_alt_screen(False)
        except OSError:
            self._keyboard.hung_up = True
        finally:
            self._keyboard.close()
        if self._keyboard.hung_up:
            self._terminal_has_gone()

    def _terminal_has_gone(self) -> None:
        """EIO, as when ssh breaks off: nothing more is written there, at the exit neither."""
        self._keyboard.hung_up = True
        forget(sys.stdout.fileno())

    def _take_signals(self) -> None:
        """Each only marks what `poll` then does: a handler may run in the middle of a write."""
        wanted: tuple[tuple[int, Callable[[int, FrameType | None], None]], ...] = (
            (signal.SIGTSTP, self._on_suspend),
            (signal.SIGCONT, self._on_continue),
            (signal.SIGTERM, self._on_end),
            (signal.SIGHUP, self._on_end),
        )
        for number, handler in wanted:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._handlers[number] = signal.signal(number, handler)

    def _on_suspend(self, number: int, frame: FrameType | None) -> None:
        self._suspend = True

    def _on_continue(self, number: int, frame: FrameType | None) -> None:
        self._redraw = True

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        """The second time it is meant: leave at once, through every ``finally``."""
        if self._ended:
            sys.exit(128 + number)
        self._ended = True

    def _stop_and_wait(self) -> None:
        """Ctrl-Z: give the terminal back, stop, and take it again after SIGCONT."""
        self._suspend = False
        self._close_screen()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._on_suspend)
        self._open_screen()
